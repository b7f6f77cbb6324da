//! Two machines without a version in common: which of them is behind, and what people are told.
//!
//! Rule: the one whose newest version is lower has to be upgraded. A later lanyard may cease to speak an old version,
//! an older one cannot learn a new one.

/// A machine with which this one has no version of a protocol in common.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Apart {
    /// What this machine speaks, newest first.
    pub ours: Vec<u16>,
    /// What the other said that it speaks; empty where it said nothing.
    pub theirs: Vec<u16>,
    /// The other's program, where it was told.
    pub software: Option<String>,
}

/// Who needs a newer lanyard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// This machine.
    This,
    /// The other.
    That,
    /// The other did not say what it speaks.
    Unknown,
}

impl Apart {
    /// Who needs a newer lanyard.
    pub fn behind(&self) -> Behind {
        match (self.theirs.iter().max(), self.ours.iter().max()) {
            (Some(theirs), Some(ours)) if theirs > ours => Behind::This,
            (Some(_), Some(_)) => Behind::That,
            _ => Behind::Unknown,
        }
    }

    /// What is wrong, with the name or address of the other. `software` is this machine's program.
    pub fn what(&self, other: &str, software: &str) -> String {
        let program = self.software.as_deref().filter(|program| !program.is_empty());
        let program = program.map_or_else(|| "another lanyard".to_string(), str::to_owned);
        let theirs = match &self.theirs[..] {
            [] => "it does not say which version of the protocol it speaks".to_string(),
            theirs => format!("it speaks {} of the protocol", versions(theirs)),
        };
        let ours = versions(&self.ours);
        let needs = match self.behind() {
            Behind::This => "this machine needs a newer lanyard".to_string(),
            Behind::That => format!("{other} needs a newer lanyard"),
            Behind::Unknown => "one of the two needs a newer lanyard".to_string(),
        };
        format!("{other} runs {program} and cannot be talked to: {theirs}, this machine ({software}) {ours}; {needs}")
    }

    /// What a person does about it.
    pub fn hint(&self, other: &str) -> String {
        let program = self.software.as_deref().filter(|program| !program.is_empty());
        match (self.behind(), program) {
            (Behind::This, Some(program)) => format!("install {program} or later on this machine; {NOTHING_LOST}"),
            (Behind::This, None) => format!("install the lanyard of {other} on this machine; {NOTHING_LOST}"),
            (Behind::That, _) => format!("install the lanyard of this machine on {other}; {NOTHING_LOST}"),
            (Behind::Unknown, _) => format!("install the same lanyard on both machines; {NOTHING_LOST}"),
        }
    }
}

const NOTHING_LOST: &str = "until then each keeps its own changes, and nothing is lost";

fn versions(list: &[u16]) -> String {
    let numbers: Vec<String> = list.iter().map(u16::to_string).collect();
    match numbers.len() {
        1 => format!("version {}", numbers[0]),
        _ => format!("versions {}", numbers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apart(theirs: &[u16], software: Option<&str>) -> Apart {
        Apart { ours: vec![2, 1], theirs: theirs.to_vec(), software: software.map(str::to_owned) }
    }

    #[test]
    fn who_speaks_only_older_versions_is_behind() {
        assert_eq!(apart(&[9], None).behind(), Behind::This);
        assert_eq!(apart(&[9, 8], None).behind(), Behind::This);
        assert_eq!(apart(&[0], None).behind(), Behind::That);
        assert_eq!(apart(&[], None).behind(), Behind::Unknown);
    }

    #[test]
    fn people_are_told_the_machine_both_versions_and_what_to_upgrade() {
        let later = apart(&[9], Some("lanyard 0.9.0"));
        assert_eq!(
            later.what("'workshop'", "lanyard 0.1.0"),
            "'workshop' runs lanyard 0.9.0 and cannot be talked to: it speaks version 9 of the protocol, this machine \
             (lanyard 0.1.0) versions 2, 1; this machine needs a newer lanyard"
        );
        assert!(later.hint("'workshop'").starts_with("install lanyard 0.9.0 or later on this machine"));
        let older = apart(&[0], Some("lanyard 0.0.1"));
        assert!(older.what("'till'", "lanyard 0.1.0").ends_with("'till' needs a newer lanyard"));
        assert!(older.hint("'till'").starts_with("install the lanyard of this machine on 'till'"));
        assert!(apart(&[], None).what("'x'", "y").contains("does not say"));
    }
}
