//! The program from outside: one module an area, transcripts of help and usage errors in `tests/cmd/`.

mod bench;
mod damage;
mod evaluate;
mod generate;
mod help;
mod hostile;
mod interrupt;
mod mask;
mod model;
mod restore;
mod restore_model;
mod scene;
mod serve;
mod train;
