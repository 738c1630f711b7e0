//! Manual pages and shell completions, generated from the command line's definition.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Args;

const NAME: &str = "hydra-provisioner";

/// Writes `hydra-provisioner.1` and one page per subcommand into `folder`.
pub(crate) fn man_pages(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Args::command(), folder)
}

/// Writes the completions for `shell` to standard output.
pub(crate) fn completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut commands(), NAME, &mut script);
    if shell == Shell::Bash {
        // clap_complete 4.6.11 uses two names for the subcommands of a program with a hyphen in its name.
        let text = String::from_utf8_lossy(&script);
        script = text.replace("hydra__subcmd__provisioner", "hydra__provisioner").into_bytes();
    }
    // A reader that has exited must not cause a panic.
    let _gone = io::Write::write_all(&mut io::stdout().lock(), &script);
}

/// All commands, without the positional CONF: shells would complete the first word as a file.
fn commands() -> Command {
    let all = Args::command();
    let options = all.get_arguments().filter(|argument| !argument.is_positional()).cloned();
    Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .args(options.collect::<Vec<_>>())
        .subcommands(all.get_subcommands().cloned().collect::<Vec<_>>())
}
