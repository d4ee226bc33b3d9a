"""Your own data: real and LLM-written examples in, one folder out, with model, card, audit and report.

`api` is the way in from Python, `synthweight fit|predict|audit|push` from the command line. Trainings are
runs of the ordinary engine (`runs`), in a store of their own.
"""
