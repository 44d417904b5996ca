//! The program: [`cli`] has what it says and does, the library `undelfs` what it knows.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
