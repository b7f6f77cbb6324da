//! What a person means by a name: nodes, groups, folders, and paths in them.
//!
//! What is signed must never rest on a guess: a name that fits several things is refused with all of them.

use super::state::Policy;
use crate::base::path::unescape;
use crate::base::{FolderId, GroupId, NodeId, RelPath};
use crate::wire::statement::Subject;

/// Names that an error lists. A guess: more than that nobody reads.
const NAMED_MAX: usize = 20;

/// Why a name means nothing, or too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// No member has this name or id.
    #[error("there is no node named {wanted}")]
    NoNode {
        /// What was asked for.
        wanted: String,
        /// The members, by name.
        known: Vec<String>,
    },
    /// It was a member once.
    #[error("{0} is no member any more")]
    Former(String),
    /// No group has this name or id.
    #[error("there is no group named {wanted}")]
    NoGroup {
        /// What was asked for.
        wanted: String,
        /// The groups, by name.
        known: Vec<String>,
    },
    /// Neither a node nor a group has this name or id.
    #[error("there is no node or group named {wanted}")]
    NoSubject {
        /// What was asked for.
        wanted: String,
        /// Members and groups.
        known: Vec<String>,
    },
    /// No folder that may be named here has this name or id.
    #[error("there is no folder named {wanted}")]
    NoFolder {
        /// What was asked for.
        wanted: String,
        /// The folders, by name.
        known: Vec<String>,
    },
    /// It fits several things.
    #[error("{wanted} can mean {}", .candidates.join(" or "))]
    Several {
        /// What was asked for.
        wanted: String,
        /// What it can mean, each with what tells it apart.
        candidates: Vec<String>,
    },
    /// The sub-path cannot be one.
    #[error("{0} is no path in a folder")]
    BadPath(String),
}

impl Unclear {
    /// What could have been meant, for people.
    pub fn known(&self) -> &[String] {
        match self {
            Self::NoNode { known, .. }
            | Self::NoGroup { known, .. }
            | Self::NoSubject { known, .. }
            | Self::NoFolder { known, .. } => known,
            Self::Former(_) | Self::Several { .. } | Self::BadPath(_) => &[],
        }
    }
}

/// The member that a name, a full id or the first letters of an id mean.
pub fn find_node(policy: &Policy, wanted: &str) -> Result<NodeId, Unclear> {
    let meant = nodes(policy, wanted);
    match meant.as_slice() {
        [one] => Ok(*one),
        [] => Err(no_node(policy, wanted)),
        several => Err(Unclear::Several {
            wanted: wanted.to_string(),
            candidates: several.iter().map(|node| described(policy, *node)).collect(),
        }),
    }
}

/// The group that a name or id means.
pub fn find_group(policy: &Policy, wanted: &str) -> Result<GroupId, Unclear> {
    let meant = groups(policy, wanted);
    match meant.as_slice() {
        [one] => Ok(*one),
        [] => Err(Unclear::NoGroup { wanted: wanted.to_string(), known: group_names(policy) }),
        several => Err(Unclear::Several {
            wanted: wanted.to_string(),
            candidates: several.iter().map(|group| described_group(policy, *group)).collect(),
        }),
    }
}

/// Whom a rule is about: `everyone`, a node or a group. `node:NAME` and `group:NAME` say which of the two is meant.
pub fn find_subject(policy: &Policy, wanted: &str) -> Result<Subject, Unclear> {
    if wanted == "everyone" {
        return Ok(Subject::Everyone);
    }
    let (nodes, groups) = (nodes(policy, wanted), groups(policy, wanted));
    match (nodes.as_slice(), groups.as_slice()) {
        ([node], []) => Ok(Subject::Node(*node)),
        ([], [group]) => Ok(Subject::Group(*group)),
        ([], []) => match wanted.split_once(':') {
            Some(("node", name)) => find_node(policy, name).map(Subject::Node),
            Some(("group", name)) => find_group(policy, name).map(Subject::Group),
            _ => match no_node(policy, wanted) {
                Unclear::NoNode { wanted, mut known } => {
                    known.extend(group_names(policy));
                    Err(Unclear::NoSubject { wanted, known })
                }
                former => Err(former),
            },
        },
        _ => {
            let mut candidates: Vec<String> = nodes.iter().map(|node| described(policy, *node)).collect();
            candidates.extend(groups.iter().map(|group| described_group(policy, *group)));
            Err(Unclear::Several { wanted: wanted.to_string(), candidates })
        }
    }
}

/// The folder that a name or id means, among `known`.
pub fn find_folder(policy: &Policy, known: &[FolderId], wanted: &str) -> Result<FolderId, Unclear> {
    let name = |id: &FolderId| policy.folder(*id).map(|state| state.name.as_str());
    let meant: Vec<FolderId> =
        known.iter().copied().filter(|id| id.to_hex() == wanted || name(id) == Some(wanted)).collect();
    match meant.as_slice() {
        [one] => Ok(*one),
        [] => Err(Unclear::NoFolder {
            wanted: wanted.to_string(),
            known: first(known.iter().filter_map(name).map(str::to_string).collect()),
        }),
        several => Err(Unclear::Several {
            wanted: wanted.to_string(),
            candidates: several.iter().map(|id| format!("folder {}", id.to_hex())).collect(),
        }),
    }
}

/// The folder and path that `FOLDER` or `FOLDER:SUBPATH` means, among `known`. A folder's name may itself have colons.
pub fn find_place(policy: &Policy, known: &[FolderId], wanted: &str) -> Result<(FolderId, RelPath), Unclear> {
    let whole = find_folder(policy, known, wanted);
    if !matches!(whole, Err(Unclear::NoFolder { .. })) {
        return whole.map(|folder| (folder, RelPath::root()));
    }
    for (at, _) in wanted.match_indices(':') {
        match find_folder(policy, known, &wanted[..at]) {
            Err(Unclear::NoFolder { .. }) => {}
            Ok(folder) => return Ok((folder, find_path(&wanted[at + 1..])?)),
            Err(several) => return Err(several),
        }
    }
    let name = wanted.split(':').next().unwrap_or(wanted);
    find_folder(policy, known, name).map(|folder| (folder, RelPath::root()))
}

/// A path in a folder from its escaped text form. Slashes at either end do not matter.
pub fn find_path(text: &str) -> Result<RelPath, Unclear> {
    let bad = || Unclear::BadPath(text.to_string());
    let bytes = unescape(text.trim_matches('/')).ok_or_else(bad)?;
    if bytes.is_empty() { Ok(RelPath::root()) } else { RelPath::new(bytes).map_err(|_| bad()) }
}

fn nodes(policy: &Policy, wanted: &str) -> Vec<NodeId> {
    // A full id means that node, whatever others are named.
    if let Ok(node) = NodeId::from_text(wanted) {
        return policy.is_member(node).then_some(node).into_iter().collect();
    }
    let short = wanted.to_ascii_lowercase();
    let is_meant = |node: NodeId, name: &str| name == wanted || node.short() == short;
    let meant: Vec<NodeId> =
        policy.members().filter(|(node, member)| is_meant(*node, &member.name)).map(|(node, _)| node).collect();
    if !meant.is_empty() {
        return meant;
    }
    let folded = wanted.to_lowercase();
    let alike = policy.members().filter(|(_, member)| member.name.to_lowercase() == folded);
    alike.map(|(node, _)| node).collect()
}

fn groups(policy: &Policy, wanted: &str) -> Vec<GroupId> {
    let is_meant = |id: GroupId, name: &str| name == wanted || id.to_hex() == wanted;
    policy.groups().filter(|(id, group)| is_meant(*id, &group.name)).map(|(id, _)| id).collect()
}

fn no_node(policy: &Policy, wanted: &str) -> Unclear {
    let former = |(node, name): (&NodeId, &String)| {
        (name == wanted || node.short() == wanted || node.to_text() == wanted).then(|| name.clone())
    };
    if let Some(name) = policy.former.iter().find_map(former) {
        return Unclear::Former(name);
    }
    let known = first(policy.members().map(|(_, member)| member.name.clone()).collect());
    Unclear::NoNode { wanted: wanted.to_string(), known }
}

fn described(policy: &Policy, node: NodeId) -> String {
    format!("the node {} ({})", policy.name(node).unwrap_or_default(), node.to_text())
}

fn described_group(policy: &Policy, group: GroupId) -> String {
    let name = policy.groups.get(&group).map_or("", |state| state.name.as_str());
    format!("the group {name} ({})", group.to_hex())
}

fn group_names(policy: &Policy) -> Vec<String> {
    first(policy.groups().map(|(_, group)| format!("group {}", group.name)).collect())
}

fn first(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.truncate(NAMED_MAX);
    names
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::base::{Hlc, MeshId, Role};
    use crate::logic::policy::{StatementSet, draft, evaluate, found};
    use crate::wire::codec::List;
    use crate::wire::statement::{Admit, Body, CreateFolder, Expel, Found, Group, Name};

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes(&[n; 32])
    }

    fn node(n: u8) -> NodeId {
        NodeId(key(n).verifying_key().to_bytes())
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("short")
    }

    /// front-desk founds; workshop, workshop again, attic and accounting join, attic leaves; a group accounting too.
    fn office() -> Policy {
        let first = Found { name: name("office"), node_name: name("front-desk"), nonce: [0; 16], recovery: node(99) };
        let first = found(first, &key(1), Hlc::default());
        let mut set = StatementSet::new(MeshId(first.id().0));
        set.insert(first).expect("founding");
        let mut say = |body| {
            let statement = draft(&set, &key(1), Hlc::default(), body, List::default());
            set.insert(statement).expect("fits");
        };
        for (n, text) in [(2, "workshop"), (3, "workshop"), (4, "attic"), (5, "accounting")] {
            say(Body::Admit(Admit { node: node(n), name: name(text), role: Role::Member }));
        }
        say(Body::Expel(Expel { node: node(4) }));
        for (n, text) in [(1, "accounting"), (2, "drawing office")] {
            say(Body::Group(Group { group: GroupId([n; 16]), name: name(text), members: List::default() }));
        }
        for text in ["plans", "plans:old", "a:b"] {
            say(Body::CreateFolder(CreateFolder { name: name(text) }));
        }
        evaluate(&set)
    }

    #[test]
    fn a_node_is_found_by_name_letter_case_aside_short_id_and_id() {
        let policy = office();
        let text = node(1).to_text();
        for wanted in ["front-desk", "Front-Desk", &node(1).short(), &text, &text.to_uppercase().replace('-', " ")] {
            assert_eq!(find_node(&policy, wanted), Ok(node(1)), "{wanted}");
        }
        assert_eq!(find_node(&policy, &node(2).to_text()), Ok(node(2)), "an id helps where names do not");
    }

    #[test]
    fn a_name_that_fits_several_is_refused_with_all_of_them() {
        let policy = office();
        let error = find_node(&policy, "workshop").expect_err("two of them").to_string();
        assert!(error.contains(&node(2).to_text()) && error.contains(&node(3).to_text()), "{error}");
        let error = find_subject(&policy, "accounting").expect_err("a node and a group").to_string();
        assert!(error.contains("the node accounting") && error.contains("the group accounting"), "{error}");
        assert_eq!(find_subject(&policy, "group:accounting"), Ok(Subject::Group(GroupId([1; 16]))));
        assert_eq!(find_subject(&policy, "node:accounting"), Ok(Subject::Node(node(5))));
    }

    #[test]
    fn what_is_unknown_is_named_with_what_is_known() {
        let policy = office();
        assert_eq!(find_node(&policy, "attic"), Err(Unclear::Former("attic".into())));
        let error = find_subject(&policy, "nobody").expect_err("unknown");
        assert_eq!(error.to_string(), "there is no node or group named nobody");
        assert!(error.known().contains(&"front-desk".into()) && error.known().contains(&"group drawing office".into()));
        assert!(matches!(find_group(&policy, "workshop"), Err(Unclear::NoGroup { .. })));
        assert!(find_node(&policy, "").is_err());
        assert_eq!(find_subject(&policy, "everyone"), Ok(Subject::Everyone));
    }

    #[test]
    fn a_place_is_a_folder_and_a_path_whatever_colons_its_name_has() {
        let policy = office();
        let known: Vec<FolderId> = policy.folders().map(|(id, _)| id).collect();
        let place = |wanted: &str| {
            find_place(&policy, &known, wanted)
                .map(|(folder, path)| (policy.folder(folder).expect("known").name.clone(), path.to_string()))
        };
        let is = |folder: &str, path: &str| Ok((folder.to_string(), path.to_string()));
        let root = RelPath::root().to_string();
        assert_eq!(place("plans"), is("plans", &root));
        assert_eq!(place("plans:2026/drafts/"), is("plans", "2026/drafts"));
        assert_eq!(place("plans:old"), is("plans:old", &root));
        assert_eq!(place("a:b:c"), is("a:b", "c"));
        assert_eq!(place("plans:"), is("plans", &root));
        for bad in ["plans:../x", "plans:a//b", "plans:.lanyard/x"] {
            assert!(matches!(place(bad), Err(Unclear::BadPath(_))), "{bad}");
        }
        assert_eq!(
            place("books:x"),
            Err(Unclear::NoFolder {
                wanted: "books".into(),
                known: vec!["a:b".into(), "plans".into(), "plans:old".into()]
            })
        );
        assert!(find_place(&policy, &[], "plans").is_err(), "what may not be seen is not named");
    }
}
