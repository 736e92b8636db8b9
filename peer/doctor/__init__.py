"""What keeps a peer daemon from working well: checks, each with what is wrong and how to mend it.

`finding` is what a check says; `network`, `scheduler`, `storage`, `certificate` and `system` hold
the checks by what they look at; `holder` knows which process has a port; `examination` runs them
side by side, each for a bounded time; `table` shows them. They look and change nothing, but for an
empty file in the data folder that is gone again at once.
"""
