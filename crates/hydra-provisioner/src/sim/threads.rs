//! `--threads`.

/// A thread costs memory: more than these are a mistake.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    let threads = text.parse::<usize>().ok().filter(|threads| *threads <= 1024);
    threads.ok_or_else(|| {
        "must be a number from 0 (as many as there are processors) to 1024".to_owned()
    })
}
