"""The authoring side: components and pipelines for Kubeflow Pipelines, and the verbs that run, compile and submit them.

carryover_kfp.components.<name>   the folder components/<name>
carryover_kfp.pipelines.<name>    the folder pipelines/<name>
The runtime (`carryover`) never imports this package; it meets it only through an entry point of the command line.
"""
