/* A browser starts no worker of a page that was opened from the disk, and the search runs in one. So there, and only
   there, `Worker` is a hidden frame of the same page that runs the same script. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.srcdoc = `<script>
        var postMessage = data => parent.dispatchEvent(new CustomEvent("frame-worker", { detail: data }))
        var importScripts = (...urls) => urls.reduce((before, src) => before.then(() => new Promise((done, failed) =>
          document.body.appendChild(Object.assign(document.createElement("script"), { src, onload: done, onerror: failed })))),
          Promise.resolve())
      <\/script><script src="${new URL(url, document.baseURI)}"><\/script>`
      window.addEventListener("frame-worker", said => this.dispatchEvent(new MessageEvent("message", { data: said.detail })))
      frame.onload = () => {
        this.inside = frame.contentWindow
        this.waiting.splice(0).forEach(data => this.postMessage(data))
      }
      document.body ? document.body.appendChild(frame)
        : document.addEventListener("DOMContentLoaded", () => document.body.appendChild(frame))
    }
    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
    terminate() {}
  }
}
