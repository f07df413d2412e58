//! What was meant, where something else was typed.

/// The one of these that is nearest to the word, if it is near enough to be a slip.
pub(crate) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = match word.chars().count() {
        0..=1 => return None,
        2..=4 => 1,
        5..=9 => 2,
        _ => 3,
    };
    // A word that was left unfinished is as near as a slip.
    let distance = |one: &str| match one.starts_with(word) && word.len() > 2 {
        true => 1,
        false => strsim::osa_distance(word, one),
    };
    let near = known.into_iter().map(|one| (distance(one), one));
    let nearest = near.min_by_key(|(distance, _)| *distance);
    nearest
        .filter(|(distance, _)| *distance <= most)
        .map(|(_, one)| one)
}

/// A question to be put behind a complaint; nothing where there is no guess.
pub(crate) fn question<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    meant(word, known).map_or_else(String::new, |one| format!("; is {one} meant?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_seen_through() {
        let verbs = ["status", "restart", "stop", "notify", "check"];
        for (typed, expected) in [
            ("statsu", Some("status")),
            ("stat", Some("status")),
            ("restrat", Some("restart")),
            ("stpo", Some("stop")),
            ("nofity", Some("notify")),
            ("chekc", Some("check")),
            ("s", None),
            ("", None),
            ("sh", None),
            ("nginx", None),
            ("sleep", None),
        ] {
            assert_eq!(meant(typed, verbs), expected, "{typed}");
        }
        assert_eq!(question("TREM", ["HUP", "TERM"]), "; is TERM meant?");
        assert_eq!(question("x", ["HUP", "TERM"]), "");
    }
}
