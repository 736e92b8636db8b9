"""What this daemon holds: content files, the index of their pieces, collection, output files.

Folder:

    <dir>/content/tasks/<id[:3]>/<id>   one sparse file per task, pieces at their offsets
    <dir>/index.sqlite3                 task and piece records (see `index`)
    <dir>/lock                          held by the daemon that uses the folder

One rule carries everything: bytes are written before the index says so. Whatever the moment of a
crash, each piece in the index is whole on disk; at most unfinished pieces are lost. What lies there
for long is read again before it goes out.

`layout` knows paths, `disk` and `copying` the system calls, `index` SQLite, `salvage` what to do
with a damaged one, `task` one task's life, `trust` which pieces to read again, `export` the output
files, `collect` whom to evict (pure), `store` ties them together.
"""
