"""What a step needs and how long it takes, on machines that are not there.

`program` lowers the project's own step for a mesh, shapes only; `worker` compiles it in
a process of its own, `compiles` keeps what that made; `hlo` reads the program's text,
`count` counts what it does (`products`, `traffic`, `trips`); `chips` has the rates;
`predict` puts them together, `fit` looks for a change that fits, `sweep` draws.
`devices` runs the step on the devices that are there.
"""
