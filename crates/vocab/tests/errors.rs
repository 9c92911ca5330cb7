//! Every fault is one sentence that names the file, the line or the number.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use palimpsest_vocab::{Error, LearnOptions, PieceOptions, Tokenizer, extend, learn, learn_pieces, read_pieces};
use std::path::{Path, PathBuf};

fn texts(count: usize) -> impl Iterator<Item = Result<String, std::io::Error>> {
    (0..count)
        .map(|index| Ok(format!("the cat {} sat on the mat, and the {index} dogs ran to the other cats", index % 7)))
}

fn base() -> Tokenizer {
    learn(texts(100), 300, &LearnOptions::default(), &mut || true).unwrap()
}

fn file(folder: &tempfile::TempDir, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

fn fault(path: &Path) -> String {
    let message = Tokenizer::open(path).unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    message
}

#[test]
fn files_that_are_no_tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    assert!(fault(folder.path()).contains("holds no tokenizer"));
    assert!(fault(&folder.path().join("absent")).contains("cannot read"));
    assert!(fault(&file(&folder, "a.model", "not a model")).contains("not a SentencePiece model"));
    assert!(fault(&file(&folder, "b.model", "")).contains("it has no pieces"));
    assert!(fault(&file(&folder, "c.json", "{\"model\": 3}")).contains("not a tokenizer.json"));
    assert!(fault(&file(&folder, "d.tiktoken", "IQ== 0\n!!! 1\n")).contains("line 2"));
    assert!(fault(&file(&folder, "e.tiktoken", "IQ== 0\nIg== 1\n")).contains("256 single bytes"));

    let saved = folder.path().join("saved");
    base().save(&saved).unwrap();
    let mut model = std::fs::read(saved.join("tokenizer.model")).unwrap();
    model.truncate(model.len() / 2);
    assert!(fault(&file(&folder, "truncated.model", &model)).contains("not a SentencePiece model"));
    std::fs::write(saved.join("tokenizer_config.json"), "{\"bos_token\":").unwrap();
    let message = Tokenizer::open(&saved).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json") && message.contains("line 1"), "{message}");
}

#[test]
fn files_of_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let message = |contents: &str| read_pieces(&file(&folder, "pieces.jsonl", contents)).unwrap_err().to_string();
    assert!(message("{\"piece\": \"a\"}\n\n{\"piece\": \"b\"\n").contains("pieces.jsonl line 3: "));
    assert!(message("{\"piece\": \"a\"}\n{\"text\": \"b\"}\n").contains("line 2: missing field `piece`"));
    assert!(message("{\"piece\": \"\"}\n").contains("line 1: the piece is empty"));
    assert!(message("{\"piece\": \"a\"}\n\"b\"\n").contains("line 2: "));
    let pieces =
        read_pieces(&file(&folder, "good.jsonl", "{\"piece\": \"中\", \"n\": 1}\r\n{\"piece\": \"国\"}")).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>(), ["中", "国"]);
}

#[test]
fn sizes_that_cannot_be() {
    let options = LearnOptions::default();
    let message = learn(texts(100), 270, &options, &mut || true).unwrap_err().to_string();
    assert!(message.contains("a vocabulary of 270 is too small") && message.contains("ask for at least"), "{message}");
    let message = learn(texts(100), 100_000, &options, &mut || true).unwrap_err();
    let Error::NotEnoughPieces { asked: 100_000, most, .. } = message else { panic!("{message}") };
    assert_eq!(learn(texts(100), most, &options, &mut || true).unwrap().vocabulary_size(), most);
    assert!(matches!(learn(texts(0), 300, &options, &mut || true), Err(Error::NoText)));
    let broken = std::iter::once(Err::<String, _>(std::io::Error::other("line 7 of x.jsonl is malformed")));
    assert_eq!(learn(broken, 300, &options, &mut || true).unwrap_err().to_string(), "line 7 of x.jsonl is malformed");

    let base = base();
    let pieces = ["中", "国", "中国", "中国"].map(palimpsest_vocab::Piece::from);
    let message = extend(&base, &pieces, Some(200)).unwrap_err().to_string();
    assert!(message.contains("the base has 300 pieces") && message.contains("at least 300"), "{message}");
    let message = extend(&base, &pieces, Some(400)).unwrap_err().to_string();
    assert!(message.contains("at most 303") && message.contains("3 new pieces"), "{message}");
    assert_eq!(extend(&base, &pieces, Some(302)).unwrap().tokenizer.vocabulary_size(), 302);
    let message = learn_pieces(&base, texts(100), 50, &PieceOptions::default(), &mut || true).unwrap_err().to_string();
    assert!(message.contains("a vocabulary of 350 needs more pieces than there are"), "{message}");
}

#[test]
fn bases_that_cannot_be_extended() {
    let folder = tempfile::tempdir().unwrap();
    base().save(folder.path()).unwrap();
    let json = Tokenizer::open(&folder.path().join("tokenizer.json")).unwrap();
    let message = extend(&json, &["中".into()], None).unwrap_err().to_string();
    assert!(message.contains("a tokenizer.json"), "{message}");
    assert!(learn_pieces(&json, texts(10), 5, &PieceOptions::default(), &mut || true).is_err());

    file(&folder, "added_tokens.json", "{\"<pad>\": 300}");
    let added = Tokenizer::open(folder.path()).unwrap();
    assert_eq!((added.vocabulary_size(), added.id("<pad>"), added.piece(300)), (301, Some(300), Some("<pad>".into())));
    let message = extend(&added, &["中".into()], None).unwrap_err().to_string();
    assert!(message.contains("added after its last piece, such as \"<pad>\""), "{message}");
    let copy = folder.path().join("copy");
    added.save(&copy).unwrap();
    assert_eq!(Tokenizer::open(&copy).unwrap().vocabulary_size(), 301);
    assert_eq!(Tokenizer::open(&copy.join("tokenizer.json")).unwrap().vocabulary_size(), 301);
}

#[test]
fn what_is_saved_is_what_was_opened() {
    let folder = tempfile::tempdir().unwrap();
    let base = base();
    assert_eq!(base.save(folder.path()).unwrap().warnings, Vec::<String>::new());
    file(&folder, "chat_template.jinja", "{{ messages }}");
    let config = std::fs::read_to_string(folder.path().join("tokenizer_config.json")).unwrap();
    let config = config.replacen('{', "{\"model_max_length\": 512, \"chat_template\": \"x\", \"auto_map\": {},", 1);
    file(&folder, "tokenizer_config.json", config);
    let opened = Tokenizer::open(folder.path()).unwrap();
    assert_eq!((opened.bos(), opened.eos()), (Some(1), Some(2)));
    let extended = extend(&opened, &["中".into(), "国".into(), "中国".into()], None).unwrap();
    let copy = folder.path().join("copy");
    extended.tokenizer.save(&copy).unwrap();
    let read = |name: &str| std::fs::read_to_string(copy.join(name)).unwrap();
    assert_eq!(read("chat_template.jinja"), "{{ messages }}");
    let config: serde_json::Value = serde_json::from_str(&read("tokenizer_config.json")).unwrap();
    assert_eq!(config["model_max_length"], 512);
    assert_eq!(config["chat_template"], "x");
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert!(config.get("auto_map").is_none());

    let again = Tokenizer::open(&copy).unwrap();
    assert_eq!(again.digest(), extended.tokenizer.digest());
    assert_ne!(again.digest(), opened.digest());
    let json = Tokenizer::open(&copy.join("tokenizer.json")).unwrap();
    assert_eq!((json.bos(), json.eos(), json.vocabulary_size()), (Some(1), Some(2), 303));
    let text = "the 中国 </s> cat\n<s><0x0A>▁国";
    let ids = again.encode(text).unwrap();
    assert!(ids.iter().all(|id| *id > 2));
    assert_eq!(json.encode(text).unwrap(), ids);
    assert_eq!(again.decode(&[&[1], &ids[..], &[2]].concat()), text.replace('▁', " "));
    assert_eq!(json.decode(&ids), text.replace('▁', " "));
    assert_eq!(again.piece(302).as_deref(), Some("中国"));
}

#[test]
fn ends_are_positions_in_the_text() {
    let base = base();
    let encoding = base.encode_with_ends("the cat é中").unwrap();
    assert_eq!(encoding.ids, base.encode("the cat é中").unwrap());
    let last = encoding.ends.len() - 1;
    // The bytes of é, then those of 中, one by one.
    assert_eq!(encoding.ends[last - 4..], [9, 10, 11, 12, 13]);
    assert_eq!(encoding.ends[last], 13);
    assert!(encoding.ends.contains(&3) && encoding.ends.contains(&7));
    let folder = tempfile::tempdir().unwrap();
    base.save(folder.path()).unwrap();
    let json = Tokenizer::open(&folder.path().join("tokenizer.json")).unwrap();
    let text = "the other cats ran, the mat";
    assert_eq!(json.encode_with_ends(text).unwrap(), base.encode_with_ends(text).unwrap());
    assert_eq!(base.encode_with_ends("").unwrap(), palimpsest_vocab::Encoding::default());
}
