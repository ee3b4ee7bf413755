"""Owns the style sheet of all reports; colours are variables, so that charts and tables follow light and dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfd; --card: #ffffff; --ink: #1b1f27; --soft: #5c6675; --line:
  #e1e5ec; --accent: #2f5fd0; --accent-rgb: 47 95 208; --wrong-rgb: 201 82 55; --grid: #e9ecf2; --warn: #a33a1c;
  --right-rgb: 47 95 208; --miss-rgb: 201 82 55;
  --s0: #2f5fd0; --s1: #b8431f; --s2: #0f7a5c; --s3: #8244b8; --s4: #8f6200; --s5: #5c6675 }
@media (prefers-color-scheme: dark) { :root { --paper: #12151b; --card: #1a1f28; --ink: #e8ebf1; --soft:
  #9aa5b5; --line: #2c3442; --accent: #84a9ff; --accent-rgb: 132 169 255; --wrong-rgb: 255 138 108; --grid:
  #272e3a; --warn: #ff9d82;
  --right-rgb: 58 98 200; --miss-rgb: 172 68 44;
  --s0: #84a9ff; --s1: #ff9d82; --s2: #52d1ad; --s3: #cda4ff; --s4: #e6b84c; --s5: #9aa5b5 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em }
h2 { font-size: 18px; margin: 40px 0 12px; overflow-wrap: anywhere }
h3 { font-size: 14px; margin: 0 0 12px; font-weight: 600 }
h1, p.lead, h3, .card p { overflow-wrap: anywhere }
p.lead { margin: 0 0 20px; color: var(--soft) }
.soft { color: var(--soft) }
p.soft { font-size: 13px; margin: 10px 0 0 }
.num { text-align: right; white-space: nowrap }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(139px, 1fr)); gap: 10px }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px }
.tile b { display: block; font-size: 22px; font-weight: 600; line-height: 1.3 }
.tile span { color: var(--soft); font-size: 12.5px }
.tile.first { border-color: var(--accent) }
.tile.first b { color: var(--accent) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 16px;
  margin-top: 16px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px;
  min-width: 0 }
.card.wide { grid-column: 1 / -1 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th { font-weight: 600; font-size: 13px; color: var(--soft); text-align: left }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top }
th.num { text-align: right }
tr:last-child > td { border-bottom: 0 }
td.key { color: var(--soft); min-width: 7em; max-width: 15em; overflow-wrap: anywhere }
table.facts td { width: 100% }
table.facts td.key { width: auto; white-space: nowrap }
td.words { overflow-wrap: anywhere; min-width: 9em }
table.matrix { width: auto; border-spacing: 3px; border-collapse: separate }
table.matrix th { border: 0; font-weight: 500 }
table.matrix td { border: 0; border-radius: 5px; text-align: center; min-width: 54px; padding: 8px 6px;
  line-height: 1.25 }
table.matrix small { display: block; font-size: 11px; opacity: .85 }
table.matrix th.side { text-align: right; vertical-align: middle }
table.matrix.dense tr:first-child th:not(.side) { writing-mode: vertical-rl; transform: rotate(180deg);
  max-width: none; max-height: 120px; text-align: left }
table.matrix.large td { min-width: 104px; height: 84px; vertical-align: middle; font-size: 22px }
table.matrix.large small { font-size: 13px }
table.matrix th:not(.side) { text-align: center }
table.matrix th { max-width: 150px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
table.matrix.dense td { min-width: 20px; padding: 3px; font-size: 11px }
.bar { display: inline-block; height: 8px; border-radius: 4px; background: rgb(var(--accent-rgb) / .75);
  vertical-align: middle }
svg { display: block; width: 100%; height: auto; max-width: 460px }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif }
svg .grid { stroke: var(--grid) }
svg .axis { stroke: var(--soft); stroke-width: 1 }
svg .ideal { stroke: var(--soft); stroke-dasharray: 4 4 }
svg .curve { fill: none; stroke: var(--accent); stroke-width: 2.2; stroke-linejoin: round }
svg .under { fill: rgb(var(--accent-rgb) / .12) }
svg .dot { fill: rgb(var(--accent-rgb) / .45) }
svg .box { fill: rgb(var(--accent-rgb) / .7) }
svg .before { fill: none; stroke: var(--s1); stroke-width: 2 }
svg .other { fill: none; stroke-width: 2; stroke-linejoin: round }
svg .s0 { stroke: var(--s0) } svg .s1 { stroke: var(--s1); stroke-dasharray: 7 3 }
svg .s2 { stroke: var(--s2); stroke-dasharray: 2 3 } svg .s3 { stroke: var(--s3); stroke-dasharray: 9 3 2 3 }
svg .s4 { stroke: var(--s4); stroke-dasharray: 4 4 } svg .s5 { stroke: var(--s5) }
svg .mark { fill: var(--accent) }
svg .stick { stroke: var(--accent); stroke-width: 1.4 }
.keys { display: flex; flex-wrap: wrap; gap: 4px 16px; list-style: none; margin: 8px 0 0; padding: 0; font-size: 13px }
.keys li { display: flex; align-items: center; gap: 6px; min-width: 0; overflow-wrap: anywhere }
.keys svg { width: 26px; height: 10px; flex: none }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 6px; padding: 0 6px; font-size: 12px;
  color: var(--soft); max-width: 100%; overflow-wrap: anywhere }
.tag.warn { color: var(--warn); border-color: currentColor }
td .tag { white-space: nowrap }
.card > * + .scroll, .card > * + .halves, .card > * + .strip, .card > * + details { margin-top: 14px }
.card > p:first-child { margin-top: 0 }
.card > p:last-child { margin-bottom: 0 }
ul.plain { list-style: none; margin: 0; padding: 0 }
ul.plain li { padding: 6px 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere }
ul.plain li:last-child { border-bottom: 0 }
details { border-bottom: 1px solid var(--line) }
details:last-of-type { border-bottom: 0 }
summary { cursor: pointer; padding: 10px 0; overflow-wrap: anywhere }
summary b { margin-right: 6px }
details > div { padding: 2px 0 16px }
.halves { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 12px 28px;
  align-items: start }
.halves > * { min-width: 0 }
pre { margin: 0; overflow-x: auto; white-space: pre-wrap }
blockquote { margin: 0 0 8px; padding: 4px 12px; border-left: 3px solid var(--line); overflow-wrap: anywhere;
  white-space: pre-wrap; font-size: 14px }
.strip { display: flex; flex-wrap: wrap; gap: 8px }
.strip img, .strip svg { display: block; height: 110px; max-height: none; width: auto; max-width: 100%;
  border-radius: 6px; border: 1px solid var(--line) }
.pair { display: flex; gap: 3px; max-width: 100% }
.pair img { flex: 0 1 auto; min-width: 0; height: auto; max-height: 110px }
.twice { display: grid; gap: 2px; min-width: 120px }
.twice span { display: block; height: 7px; border-radius: 3px; background: rgb(var(--accent-rgb) / .75) }
.twice .was { background: none; border: 1.5px solid var(--s1) }
footer { margin-top: 40px; color: var(--soft); font-size: 13px }
@media (max-width: 480px) {
  main { padding: 20px 12px 40px }
  .card { padding: 14px 14px }
  svg text { font-size: 15px }
  table.matrix.large td { min-width: 72px; height: 60px; font-size: 18px }
  table.matrix th.side.soft { white-space: normal; max-width: 92px; overflow: visible }
  .facts td.key { max-width: 9em }
}
@media print { .card, .tile { break-inside: avoid } }
"""
