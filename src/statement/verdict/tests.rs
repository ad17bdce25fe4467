use super::super::{Dialect, Encoding, Facts, judge_guarded, numbers};
use super::{Breach, Rule};

const UTF8: Dialect = Dialect { encoding: Encoding::Utf8, standard_conforming_strings: true };
const LATIN: Dialect = Dialect { encoding: Encoding::AsciiSafe, standard_conforming_strings: true };

fn breach_of(facts: &Facts) -> Option<Breach> {
    facts.verdict()?.breach(false, None).map(std::borrow::Cow::into_owned)
}

fn breach(text: &str) -> Option<Breach> {
    breach_of(&judge_guarded(text.as_bytes(), UTF8))
}

/// The cases of the corpus that are sent to a real PostgreSQL as well: heading, and the requests.
fn cases(text: &str) -> Vec<(String, Vec<String>)> {
    let (mut group, mut cases) = (String::new(), Vec::<(String, String)>::new());
    for line in text.lines() {
        match line.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'=') => group = line.split(' ').nth(1).unwrap().to_owned(),
            Some(b' ' | b'\t') => {
                let last = &mut cases.last_mut().unwrap().1;
                last.push('\n');
                last.push_str(line);
            }
            Some(_) => cases.push((group.clone(), line.to_owned())),
        }
    }
    let steps = |text: &str| text.split(" ;;; ").map(|step| step.replace(['{', '}'], "")).collect();
    cases.into_iter().map(|(group, text)| (group, steps(&text))).collect()
}

#[test]
fn every_refused_case_breaks_the_rule_that_it_stands_under() {
    for (group, steps) in cases(include_str!("../../../tests/postgres/guard/refused.txt")) {
        if matches!(group.as_str(), "startup" | "call") {
            continue;
        }
        let (last, before) = steps.split_last().unwrap();
        let rule = breach(last).map(|breach| breach.rule.as_str());
        assert_eq!(rule, Some(group.as_str()), "{last}");
        before.iter().for_each(|step| assert_eq!(breach(step), None, "{step}"));
    }
}

#[test]
fn every_allowed_case_breaks_no_rule_in_any_encoding() {
    for (group, steps) in cases(include_str!("../../../tests/postgres/guard/allowed.txt")) {
        for step in steps.iter().filter(|_| group != "startup") {
            assert_eq!(breach(step), None, "{step}");
            if step.is_ascii() {
                assert_eq!(breach_of(&judge_guarded(step.as_bytes(), LATIN)), None, "{step}");
            }
        }
    }
}

/// A reader of numbers is wrong, or a rule looks at them and does not say so.
#[test]
fn numbers_make_no_difference_where_facts_say_so() {
    let corpus = [
        include_str!("../../../tests/postgres/guard/refused.txt"),
        include_str!("../../../tests/postgres/guard/allowed.txt"),
    ];
    let (mut blank, mut tried) = (Vec::new(), 0);
    for text in corpus.into_iter().flat_map(cases).flat_map(|(_, steps)| steps) {
        if !numbers::blank(text.as_bytes(), &mut blank) {
            continue;
        }
        let blank = String::from_utf8(blank.clone()).unwrap();
        let others = ["0", "1", "7", "64", "131072", "262144", "393216", "999999999"].map(|number| {
            let other = blank.replace('\0', number);
            judge_guarded(other.as_bytes(), UTF8)
        });
        if let Some(sharing) = others.iter().find(|facts| facts.hold_for_any_number()) {
            tried += 1;
            let breaks = |facts: &&Facts| {
                *facts != sharing && breach_of(facts).is_none_or(|breach| breach.rule != Rule::Syntax)
            };
            assert_eq!(others.iter().find(breaks), None, "{text}");
        }
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn what_stands_before_a_refused_statement_may_run() {
    for (text, before) in [
        ("DELETE FROM t", ""),
        ("SELECT 1; DELETE FROM t; SELECT 2", "SELECT 1;"),
        ("SELECT 'é;' ; /* ; */ DELETE FROM t", "SELECT 'é;' ;"),
        ("BEGIN;;COMMIT; NOTIFY a; DELETE FROM t", "BEGIN;;COMMIT;"),
    ] {
        let breach = breach(text).unwrap();
        let (before_it, rest) = text.split_at(breach.at);
        assert_eq!(
            before_it.trim_end().strip_suffix("/* ; */").unwrap_or(before_it).trim_end(),
            before,
            "{text}"
        );
        assert!(rest.contains("DELETE"), "{text}");
    }
    let latin = judge_guarded(b"SELECT '\xe9'; DELETE FROM t", LATIN);
    assert_eq!(breach_of(&latin).unwrap().at, 0, "places are not those of the client's text");
}

#[test]
fn read_write_becomes_read_only_and_nothing_else_changes() {
    let reworded = |text: &str, dialect| {
        let facts = judge_guarded(text.as_bytes(), dialect);
        let words = facts.verdict()?.reword(text.as_bytes(), text.len())?;
        Some(String::from_utf8(words).unwrap())
    };
    for (text, words) in [
        ("BEGIN READ WRITE", "BEGIN READ ONLY"),
        ("begin/**/work read\nwrite", "BEGIN READ ONLY"),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE, DEFERRABLE",
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
        ),
        (
            "SELECT 'é'; BEGIN READ WRITE; SELECT 'READ WRITE'",
            "SELECT 'é'; BEGIN READ ONLY; SELECT 'READ WRITE'",
        ),
        (
            "BEGIN READ WRITE, READ ONLY; COMMIT; BEGIN READ WRITE;",
            "BEGIN READ ONLY, READ ONLY; COMMIT; BEGIN READ ONLY;",
        ),
    ] {
        assert_eq!(reworded(text, UTF8).as_deref(), Some(words), "{text}");
        assert_eq!(breach(text), None, "{text}");
    }
    for text in ["BEGIN", "BEGIN READ ONLY", "SELECT 'BEGIN READ WRITE'"] {
        assert_eq!(reworded(text, UTF8), None, "{text}");
    }
    let latin = judge_guarded("SELECT 'é'; BEGIN READ WRITE".as_bytes(), LATIN);
    assert_eq!(breach_of(&latin).unwrap().rule, Rule::Mode);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let rule = |text: &[u8], dialect| breach_of(&judge_guarded(text, dialect)).map(|breach| breach.rule);
    let loose = Dialect { standard_conforming_strings: false, ..UTF8 };
    let unsafe_ = Dialect { encoding: Encoding::Unsafe, ..UTF8 };
    for (text, dialect) in [
        (&b"SELECT 1\0DELETE FROM t"[..], UTF8),
        (b"SELECT '\xff'", UTF8),
        (br"SELECT '\'", loose),
        (b"SELECT '\x95\x5c'", unsafe_),
        (&[b' '; 270_000], UTF8),
        (&b"--\n".repeat(1_000), UTF8),
    ] {
        assert_eq!(rule(text, dialect), Some(Rule::Unread), "{}", text.escape_ascii());
    }
    assert_eq!(rule(b"SELEC 1", UTF8), Some(Rule::Syntax));
    assert_eq!(rule(b"SELECT '", UTF8), Some(Rule::Syntax));
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(rule(deep.as_bytes(), UTF8).is_some());
    assert!(Facts::unknown().verdict().is_some(), "what nobody asked about is refused");
}

#[test]
fn a_list_of_functions_is_compared_with_what_the_text_calls() {
    let facts = judge_guarded(b"SELECT f(1), s.g(), count(*), \"F\"(2) FROM h()", UTF8);
    let listed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        facts.verdict().unwrap().breach(false, Some(&names)).map(|breach| breach.what.to_string())
    };
    assert_eq!(listed(&["f", "s.g", "F", "h"]), None);
    assert_eq!(listed(&["f", "g", "F", "h"]).as_deref(), Some("s.g()"));
    assert!(listed(&[]).is_some());
    assert_eq!(facts.verdict().unwrap().breach(false, None), None);
    let many: String = (0..100).map(|n| format!(",f{n}()")).collect();
    let many = judge_guarded(format!("SELECT 1{many}").as_bytes(), UTF8);
    let all: Vec<String> = (0..100).map(|n| format!("f{n}")).collect();
    assert!(many.verdict().unwrap().breach(false, Some(&all)).is_some(), "more than are kept");
}

#[test]
fn a_name_is_refused_as_a_turkish_server_would_fold_it() {
    assert_eq!(breach("SELECT lo_unl\u{130}nk(1)").unwrap().rule, Rule::LargeObject);
    assert_eq!(breach("SELECT x.lo_unl\u{130}nk FROM x").unwrap().rule, Rule::LargeObject);
    assert_eq!(breach("SELECT pg_not\u{130}fy('a', 'b')").unwrap().rule, Rule::Notify);
    let latin = judge_guarded(b"SELECT lo_unl\xddnk(1)", LATIN);
    assert_eq!(breach_of(&latin).unwrap().rule, Rule::LargeObject);
    let column = judge_guarded(b"SELECT t.gr\xf6\xdfe, gr\xfc\xdfe() FROM t", LATIN);
    assert_eq!(breach_of(&column), None);
    assert!(breach("SET transact\u{130}on_read_only = off").is_some());
}

#[test]
fn no_text_uses_up_the_stack() {
    let long = 250_000;
    let sum = |times: usize| format!("1{}", "+1".repeat(times));
    let nested = |open: &str, close: &str| {
        let times = long / (open.len() + close.len());
        format!("SELECT {}1{}", open.repeat(times), close.repeat(times))
    };
    let texts = [
        format!("(SELECT 1 ORDER BY {}) ORDER BY {}", sum(long / 4), sum(long / 4)),
        format!("SELECT 1 LIMIT {} LIMIT 2", sum(long / 2)),
        format!("SELECT {} IN (1)", sum(long / 2)),
        format!("SELECT 1{}", "::int".repeat(long / 5)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(long / 15)),
        format!("SELECT {}", vec!["1=1"; long / 7].join("AND ")),
        nested("(", ")"),
        nested("- ", ""),
        nested("NOT ", ""),
        nested("ARRAY[", "]"),
        nested("f(", ")"),
        nested("(SELECT ", ")"),
        nested("CASE WHEN ", " THEN 1 END"),
    ];
    for text in texts {
        let judged = std::thread::Builder::new().stack_size(super::super::STACK).spawn(move || {
            judge_guarded(text.as_bytes(), UTF8);
        });
        judged.unwrap().join().unwrap();
    }
}

#[test]
fn a_text_is_carried_out_inside_a_transaction_unless_nothing_of_the_databases_own_runs_in_it() {
    use crate::statement::Conduct::{self, Bare, Begins, Ends, Inside, Refused};
    let conduct = |text: &str| -> Conduct { judge_guarded(text.as_bytes(), UTF8).conduct() };
    for text in
        ["SELECT 1", "SELECT f()", "EXECUTE p", "FETCH ALL c", "PREPARE p AS SELECT 1", "SHOW a; SELECT 1"]
    {
        assert_eq!(conduct(text), Inside, "{text}");
    }
    for text in ["", "SHOW work_mem", "SET LOCAL work_mem = 1", "SAVEPOINT a", "DISCARD ALL"] {
        assert_eq!(conduct(text), Bare { lasts: false }, "{text}");
    }
    for text in ["SET work_mem = 1; SET jit = off", "LISTEN a", "SELECT set_config('work_mem', '1', false)"] {
        assert_eq!(conduct(text), Bare { lasts: true }, "{text}");
    }
    for text in ["BEGIN", "BEGIN; SELECT 1"] {
        assert_eq!(conduct(text), Begins, "{text}");
    }
    for (text, begins) in
        [("COMMIT", false), ("BEGIN; SELECT 1; COMMIT", true), ("SELECT 1; ROLLBACK", false)]
    {
        assert!(matches!(conduct(text), Ends(ending) if ending.begins == begins), "{text}");
    }
    for text in [
        "COMMIT; SELECT 1",
        "SELECT 1; BEGIN",
        "SET work_mem = 1; SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT set_config('work_mem', s, false) FROM t",
        "SELECT f(set_config('work_mem', '1', false))",
        "NOTIFY a",
        "DELETE FROM t",
    ] {
        assert!(matches!(conduct(text), Refused(_)), "{text}");
    }
    let words = |text: &str| {
        let facts = judge_guarded(text.as_bytes(), UTF8);
        let words = facts.verdict().and_then(|verdict| verdict.reword_strictly(text.as_bytes()));
        String::from_utf8(words.unwrap_or_default()).unwrap()
    };
    assert_eq!(words("SELECT 1; COMMIT -- x"), "SELECT 1;  ROLLBACK /* COMMIT */");
    assert_eq!(
        words("SELECT set_config(name, 'a', false) FROM pg_settings WHERE name = 'work_mem'"),
        "SELECT pg_catalog.set_config(name, 'a', false) FROM pg_catalog.pg_settings \
         WHERE name OPERATOR(pg_catalog.=) 'work_mem'"
    );
    assert_eq!(words("SELECT 1"), "");
}
