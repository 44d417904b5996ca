"""What `scripts/bench` is made of.

`machine` prepares, `content`, `lost` and `filled` make the images, `sources` are what is read from, `watch` looks at processes, and
each of `reading`, `copying`, `scanning`, `rivals`, `fragments`, `tera` and `starting` measures one kind of work into the table of
`results`, which `plot` draws and `readme` puts into the README.
"""
