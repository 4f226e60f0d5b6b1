"""Training from a config file: `python -m train CONFIG [section.key=value ...]`.

What the data does on its way, in one direction: config -> data -> model ->
linearisation -> loss and penalty -> step -> record -> report.
"""
