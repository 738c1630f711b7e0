//! Manual pages and shell completions, made from the command line's own definition.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Args;

/// Writes `hydra-provisioner.1` and one page a subcommand into `folder`.
pub(crate) fn man_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Args::command(), folder)
}

/// Writes the completions for `shell` to standard output.
pub(crate) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "hydra-provisioner", &mut script);
    // A reader that has gone away is no reason to panic.
    let _gone = io::Write::write_all(&mut io::stdout().lock(), &script);
}
