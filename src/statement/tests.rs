//! Hostile texts, and texts in other encodings than the grammar's.

use super::{Dialect, Encoding, Facts, Kind, Listening, Pin, States, Touched, judge};

const PLAIN: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
const LATIN: Dialect = Dialect { encoding: Encoding::AsciiSafe, standard_conforming_strings: true };
const SJIS: Dialect = Dialect { encoding: Encoding::Unsafe, standard_conforming_strings: true };

fn utf8(text: &str) -> Facts {
    judge(text.as_bytes(), PLAIN)
}

/// What a worker's thread has.
fn on_a_small_stack(judge: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 << 20).spawn(judge).unwrap().join().unwrap();
}

#[test]
fn what_fetches_or_executes_has_the_columns_of_something_else() {
    for (text, varies) in [
        ("FETCH ALL FROM c", true),
        ("EXECUTE q(1)", true),
        ("SELECT 1; FETCH c", true),
        ("SELECT 1", false),
        ("SHOW work_mem", false),
        ("EXPLAIN EXECUTE q", false),
        ("FETCH FETCH", false),
    ] {
        assert_eq!(utf8(text).result_varies(), varies, "{text}");
    }
}

#[test]
fn what_begins_a_transaction_block_is_told_from_what_only_ends_one() {
    for (text, begins) in [
        ("BEGIN", true),
        ("START TRANSACTION READ ONLY", true),
        ("SELECT 1; BEGIN; SAVEPOINT s; ROLLBACK TO s", true),
        ("BEGIN; COMMIT; BEGIN", true),
        ("BEGIN; COMMIT AND CHAIN", true),
        ("SELECT 1; BEGIN; SELECT 2; COMMIT", false),
        ("BEGIN; PREPARE TRANSACTION 'x'", false),
        ("START TRANSACTION; ROLLBACK", false),
        ("COMMIT", false),
        ("ROLLBACK AND CHAIN", false),
        ("SAVEPOINT s", false),
        ("COMMIT PREPARED 'x'", false),
        ("SET TRANSACTION READ ONLY", false),
        ("DO 'BEGIN END'", false),
    ] {
        assert_eq!(utf8(text).begins_block(), begins, "{text}");
    }
}

#[test]
fn deep_and_wide_texts_do_not_use_up_the_stack() {
    on_a_small_stack(|| {
        let deep = 31_000;
        for (text, kind) in [
            (format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)), Kind::Unknown),
            (format!("SELECT {}1{}", "(".repeat(4_000), ")".repeat(4_000)), Kind::Read),
            (format!("{}SELECT 1{}", "(".repeat(4_000), ")".repeat(4_000)), Kind::Read),
            (format!("SELECT {}", "(".repeat(60_000)), Kind::Unknown),
            (format!("SELECT {}", "[".repeat(60_000)), Kind::Unknown),
            (format!("SELECT ARRAY{}1{}", "[".repeat(4_000), "]".repeat(4_000)), Kind::Read),
            (format!("SELECT 1{}", "+1".repeat(deep)), Kind::Read),
            (format!("SELECT {}1", "- ".repeat(9_000)), Kind::Read),
            (format!("SELECT {}1", "- ".repeat(deep)), Kind::Unknown),
            (format!("SELECT {}true", "NOT ".repeat(9_000)), Kind::Read),
            (format!("SELECT 1{}", "::a".repeat(20_000)), Kind::Read),
            (format!("SELECT a{}", "[1]".repeat(20_000)), Kind::Read),
            (format!("SELECT 1 IN (1{})", ",1".repeat(deep)), Kind::Read),
            (format!("SELECT true{}", " AND a".repeat(10_000)), Kind::Read),
            (format!("SELECT true{}", " OR a AND b".repeat(5_000)), Kind::Read),
            (format!("SELECT 1{}", " UNION SELECT 1".repeat(4_000)), Kind::Read),
            (format!("SELECT {}1{}", "lower(".repeat(2_000), ")".repeat(2_000)), Kind::Read),
            (format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000)), Kind::Read),
            (format!("SELECT 1 FROM a{}", " JOIN b ON c".repeat(5_000)), Kind::Read),
            (format!("SELECT {}1{}", "CASE WHEN a THEN ".repeat(1_500), " END".repeat(1_500)), Kind::Read),
            ("SELECT 1;".repeat(7_000), Kind::Read),
            (";".repeat(60_000), Kind::Empty),
            ("--\n".repeat(21_000), Kind::Unknown),
            ("/**/".repeat(16_000), Kind::Unknown),
            (format!("{}SELECT 1", "--\n".repeat(500)), Kind::Read),
            ("/*".repeat(32_000), Kind::Unknown),
            (format!("SELECT '{}'", "x".repeat(65_000)), Kind::Read),
            (format!("SELECT {}", "x".repeat(65_000)), Kind::Read),
            (format!("SELECT {}", "1".repeat(65_000)), Kind::Read),
        ] {
            assert!(text.len() <= 64 * 1024, "{} bytes: {}", text.len(), &text[..20]);
            assert_eq!(utf8(&text).kind, kind, "{}", &text[..30]);
        }
    });
}

#[test]
fn a_call_at_the_bottom_of_a_deep_text_is_found() {
    let text = format!("SELECT {}setseed(0){}", "1+(".repeat(3_000), ")".repeat(3_000));
    assert_eq!(utf8(&text).effects.pin, Some(Pin::RandomSeed));
    let text = format!("SELECT setseed(0){}", "+1".repeat(30_000));
    assert_eq!(utf8(&text).effects.pin, Some(Pin::RandomSeed));
}

#[test]
fn a_text_that_is_too_long_is_not_read() {
    let text = |length: usize| format!("SELECT '{}'", "x".repeat(length - 9));
    assert_eq!(utf8(&text(64 * 1024)).kind, Kind::Read);
    assert_eq!(utf8(&text(64 * 1024 + 1)).kind, Kind::Unknown);
}

#[test]
fn many_settings_in_one_text_are_any() {
    let text: String = (0..2_000).map(|number| format!("SET a.b{number} = 1;")).collect();
    assert_eq!(utf8(&text).effects.settings, Touched::Any);
}

#[test]
fn threads_do_not_disturb_each_other() {
    let workers: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for number in 0..500 {
                    assert_eq!(utf8(&format!("SELECT lower('{number}')")).kind, Kind::Read);
                    assert_eq!(utf8(&format!("SELECT lower('{number}'")).kind, Kind::Unknown);
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

#[test]
fn a_backslash_is_trusted_only_in_standard_strings() {
    let loose = Dialect { standard_conforming_strings: false, ..PLAIN };
    assert_eq!(judge(br"SELECT '\'", PLAIN).kind, Kind::Read);
    assert_eq!(judge(br"SELECT '\'; LISTEN a; --'", loose).kind, Kind::Unknown);
    assert_eq!(judge(br"SELECT 'a'", loose).kind, Kind::Read);
}

#[test]
fn utf_8_has_to_be_valid() {
    assert_eq!(utf8("SELECT 'é' AS \"ü\"").kind, Kind::Read);
    assert_eq!(judge(b"SELECT '\xe9'", PLAIN).kind, Kind::Unknown);
    assert_eq!(utf8("LISTEN \"é\"").effects.listens[..], [Listening::Listen("é".into())]);
    // An escape may make a string that is no UTF-8.
    for text in [r"SELECT set_config(E'\xff', 'a', false)", r"SELECT E'\xe9'", r"SELECT U&'\d800'"] {
        assert_eq!(utf8(text).kind, Kind::Unknown, "{text}");
    }
}

#[test]
fn bytes_of_single_byte_encodings_are_letters() {
    assert!(judge(b"SELECT '\xe9', \xe9\xe8 FROM t\xff", LATIN).is_plain());
    assert!(judge(b"SELECT t\xe9()", LATIN).effects.calls_unknown);
    // A name that cannot be told.
    assert_eq!(judge(b"SET a.\xe9 = 1", LATIN).effects.settings, Touched::Any);
    assert_eq!(
        judge(b"SET search_path = '\xe9'", LATIN).effects.settings,
        utf8("SET search_path = 'a'").effects.settings
    );
    for text in [
        &b"LISTEN \xe9"[..],
        b"UNLISTEN \xe9",
        b"PREPARE \xe9 AS SELECT 1",
        b"EXECUTE \xe9",
        b"DEALLOCATE \xe9",
    ] {
        let effects = judge(text, LATIN).effects;
        assert_eq!((effects.pin, effects.listens.len()), (Some(Pin::Opaque), 0));
    }
    // Nor can one that may have been cut in the wrong place.
    let long = "a".repeat(62);
    assert_eq!(utf8(&format!("LISTEN {long}b")).effects.pin, None);
    assert_eq!(utf8(&format!("LISTEN {long}é")).effects.pin, Some(Pin::Opaque));
    assert_eq!(judge(&[b"LISTEN ", long.as_bytes(), b"\xe9"].concat(), LATIN).effects.pin, Some(Pin::Opaque));
    // No byte becomes part of a keyword.
    assert_eq!(judge(b"SET TIME \xe9one 'UTC'", LATIN).kind, Kind::Unknown);
}

#[test]
fn bytes_that_may_look_like_ascii_are_not_read() {
    assert_eq!(judge(b"SELECT '\x83\x5c'", SJIS).kind, Kind::Unknown);
    assert_eq!(judge(b"SELECT 'a'", SJIS).kind, Kind::Read);
}

#[test]
fn encodings_are_known_by_postgresqls_names() {
    for (name, encoding) in [
        ("UTF8", Encoding::Utf8),
        ("utf-8", Encoding::Utf8),
        ("Unicode", Encoding::Utf8),
        ("LATIN1", Encoding::AsciiSafe),
        ("iso-8859-1", Encoding::AsciiSafe),
        ("ISO_8859_5", Encoding::AsciiSafe),
        ("WIN1252", Encoding::AsciiSafe),
        ("windows-1251", Encoding::AsciiSafe),
        ("KOI8-R", Encoding::AsciiSafe),
        ("EUC_JIS_2004", Encoding::AsciiSafe),
        ("SQL_ASCII", Encoding::AsciiSafe),
        ("MULE_INTERNAL", Encoding::AsciiSafe),
        ("SJIS", Encoding::Unsafe),
        ("SHIFT_JIS_2004", Encoding::Unsafe),
        ("BIG5", Encoding::Unsafe),
        ("GBK", Encoding::Unsafe),
        ("UHC", Encoding::Unsafe),
        ("GB18030", Encoding::Unsafe),
        ("JOHAB", Encoding::Unsafe),
        ("win932", Encoding::Unsafe),
        ("", Encoding::Unsafe),
        ("utf16", Encoding::Unsafe),
        ("a_name_that_is_longer_than_any", Encoding::Unsafe),
    ] {
        assert_eq!(Encoding::of(name.as_bytes()), encoding, "{name}");
    }
}

#[test]
fn sets_of_states_are_sets() {
    let two = States::TEMP.union(States::LISTEN);
    assert!(two.contains(States::TEMP) && !two.contains(States::ALL) && !two.is_empty());
    assert_eq!(two.iter().collect::<Vec<_>>(), [States::TEMP, States::LISTEN]);
    assert_eq!(two.without(States::TEMP), States::LISTEN);
    assert_eq!(States::ALL.iter().count(), 5);
    assert_eq!(States::NONE, States::default());
}
