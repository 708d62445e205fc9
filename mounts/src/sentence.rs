//! A failure as one line for people.

/// What failed and why, from the outermost to the innermost cause; a cause that has been told already, in
/// the words of the one around it, is not told again.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.contains(&cause) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let taken = anyhow!("Address already in use (os error 98)");
        let error = taken
            .context("cannot listen on 127.0.0.1:1: Address already in use (os error 98)")
            .context("the server did not start");
        assert_eq!(
            sentence(&error),
            "the server did not start: cannot listen on 127.0.0.1:1: Address already in use (os error 98)"
        );
    }
}
