//! Counts in messages.

/// `number` of things, in the singular for one: `1 step`, `2 steps`. `thing` has a regular plural.
pub fn counted(number: u64, thing: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        for (number, text) in [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (11, "11 steps")] {
            assert_eq!(counted(number, "step"), text);
        }
    }
}
