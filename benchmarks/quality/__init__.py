"""How good models of this project become on real data: `make quality` runs it and writes docs/quality.md.

cases.py    what is tried: data, label, recipes ("arms"), what must be reached
run.py      prepares, trains and evaluates by the command line, three seeds an arm; results as JSON lines
page.py     the page: means, spread, intervals, and whether each goal was reached
"""
