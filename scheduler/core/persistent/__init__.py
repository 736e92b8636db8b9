"""The brain of persistent tasks: content that is uploaded once, and kept by some hosts for a time.

It decides over a snapshot of one task that somebody else loaded, and says what is to be written
back: the state belongs to all schedulers of a cluster. Pure like the rest of `scheduler.core`.
Standard tasks never come here.
"""
