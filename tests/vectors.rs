//! Named vectors: the formats of `docs/spec`, byte for byte; and the fuzz corpus, replayed.
//!
//! Each file of `tests/vectors` is frozen: the readers must give what it says, and the writers must still make its
//! bytes. In every file the refused outnumber the accepted.

#[path = "fuzz/decoders.rs"]
mod decoders;
#[path = "vectors/file.rs"]
mod file;
#[path = "vectors/joining.rs"]
mod joining;
#[path = "vectors/links.rs"]
mod links;
#[path = "vectors/logs.rs"]
mod logs;
#[path = "vectors/statements.rs"]
mod statements;
#[path = "vectors/values.rs"]
mod values;

use std::fs;
use std::path::PathBuf;

use file::check;
use lanyard::wire::codec;
use lanyard::wire::signed::Signed;

/// Each file of vectors and the decoder whose corpus its inputs belong to, if one reads them as they stand.
const FILES: &[(&str, Option<&str>)] = &[
    ("node-ids.txt", Some("node_id")),
    ("paths.txt", Some("path")),
    ("encoding.txt", None),
    ("envelopes.txt", Some("envelope")),
    ("statements.txt", Some("signed")),
    ("batches.txt", Some("signed")),
    ("entries.txt", Some("entries")),
    ("contents.txt", Some("content")),
    ("dial.txt", None),
    ("messages.txt", Some("message")),
    ("pairing.txt", Some("pairing")),
    ("relay.txt", Some("relay")),
    ("versions.txt", Some("versions")),
    ("announcements.txt", Some("announce")),
    ("codes.txt", Some("code")),
    ("tickets.txt", Some("ticket")),
];

#[test]
fn a_node_id_is_read_and_a_mistyped_one_refused() {
    check("node-ids.txt", &values::node_ids(), values::read_node_id);
}

#[test]
fn a_path_stays_in_its_folder_or_is_refused() {
    check("paths.txt", &values::paths(), values::read_path);
}

#[test]
fn a_value_has_one_encoding() {
    check("encoding.txt", &values::encoding(), values::read_value);
}

#[test]
fn an_envelope_fills_its_bytes_or_is_refused() {
    check("envelopes.txt", &values::envelopes(), values::read_envelope);
}

#[test]
fn a_statement_is_as_it_was_signed_or_is_refused() {
    check("statements.txt", &statements::cases(), statements::read);
}

#[test]
fn a_batch_is_as_it_was_signed_or_is_refused() {
    check("batches.txt", &logs::batches(), logs::read_batch);
}

#[test]
fn entries_expand_to_what_was_hashed_or_are_refused() {
    check("entries.txt", &logs::entries(), logs::read_entries);
}

#[test]
fn equal_bytes_have_one_content_id() {
    check("contents.txt", &logs::contents(), logs::read_content);
}

#[test]
fn an_answer_proves_the_discovery_key_or_nothing() {
    check("dial.txt", &links::dial(), links::read_dial);
}

#[test]
fn a_message_is_understood_or_refused() {
    check("messages.txt", &links::messages(), links::read_message);
}

#[test]
fn a_pairing_message_is_understood_or_refused() {
    check("pairing.txt", &links::pairing_messages(), links::read_pairing);
}

#[test]
fn a_message_to_a_relay_is_understood_or_refused() {
    check("relay.txt", &links::relay_messages(), links::read_relay);
}

#[test]
fn a_word_about_versions_is_understood_or_refused() {
    check("versions.txt", &links::versions(), links::read_versions);
}

#[test]
fn an_announcement_is_understood_or_passed_over() {
    check("announcements.txt", &joining::announcements(), joining::read_announcement);
}

#[test]
fn a_pairing_code_is_read_as_typed_or_refused() {
    check("codes.txt", &joining::codes(), joining::read_code);
}

#[test]
fn a_ticket_is_read_or_refused() {
    check("tickets.txt", &joining::tickets(), joining::read_ticket);
}

#[test]
fn every_decoder_survives_every_vector() {
    for (file, _) in FILES {
        for input in file::inputs(file) {
            for (_, decoder) in decoders::DECODERS {
                decoder(&input);
            }
        }
    }
}

#[test]
fn every_decoder_survives_its_corpus() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, decoder) in decoders::DECODERS {
        let inputs: Vec<PathBuf> = fs::read_dir(corpus.join(name))
            .unwrap_or_else(|e| panic!("no corpus of {name}: {e}"))
            .map(|entry| entry.expect("a file of the corpus").path())
            .collect();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            decoder(&fs::read(&input).expect("a readable file"));
        }
    }
}

/// Run by `tests/fuzz/run` with `LANYARD_SEEDS` set to the directory of the corpora; else it only makes the names true.
#[test]
fn vectors_seed_the_corpora() {
    for (file, seeds) in FILES {
        let Some(target) = seeds else { continue };
        assert!(decoders::DECODERS.iter().any(|(name, _)| name == target), "{file}: no decoder {target}");
        let Some(dir) = std::env::var_os("LANYARD_SEEDS") else { continue };
        for input in file::inputs(file) {
            let inner = match (*file, codec::decode::<Signed>("signed", &input, 256 * 1024)) {
                ("statements.txt", Ok(signed)) => Some(("statement", signed.envelope.to_vec())),
                ("batches.txt", Ok(signed)) => Some(("batch", signed.envelope.to_vec())),
                ("messages.txt", _) => Some(("frame", input.clone())),
                ("tickets.txt", _) => ticket_contents(&input).map(|contents| ("ticket", contents)),
                _ => None,
            };
            for (target, seed) in [Some((*target, input)), inner].into_iter().flatten() {
                if seed.len() <= decoders::INPUT_MAX {
                    let dir = PathBuf::from(&dir).join(target);
                    fs::create_dir_all(&dir).expect("a directory for the corpus");
                    fs::write(dir.join(&blake3::hash(&seed).to_hex()[..16]), seed).expect("a seed");
                }
            }
        }
    }
}

/// What a ticket's text holds, without its checksum.
fn ticket_contents(text: &[u8]) -> Option<Vec<u8>> {
    let letters = std::str::from_utf8(text).ok()?.strip_prefix("lanyard-ticket-1\n")?.replace('\n', "").to_uppercase();
    let mut bytes = data_encoding::BASE32_NOPAD.decode(letters.as_bytes()).ok()?;
    bytes.truncate(bytes.len().saturating_sub(8));
    Some(bytes)
}
