//! The format and the matching, as tables.

use super::*;

fn rules(text: &str) -> Vec<Rule> {
    parse(text).unwrap()
}

fn problem(line: &str) -> String {
    let errors = parse(line).map(|_| ()).unwrap_err();
    assert_eq!((errors.len(), errors[0].line), (1, 1), "{line}");
    errors[0].problem.clone()
}

fn tcp(address: &str) -> Transport {
    Transport::Tcp { address: address.parse().unwrap() }
}

fn tls(address: &str) -> Transport {
    Transport::Tls { address: address.parse().unwrap() }
}

const UNIX: Transport = Transport::Unix { uid: Some(0) };

/// The line of the first rule that fits.
fn line(rules: &[Rule], transport: Transport, database: &str, user: &str) -> Option<usize> {
    first(rules, &Asked { transport, database: Some(database), user }).map(|rule| rule.place)
}

#[test]
fn a_file_as_postgresql_ships_it_is_read() {
    let text = "# TYPE  DATABASE        USER            ADDRESS                 METHOD\n\
        \n\
        local   all             all                                     peer\n\
        host    all             all             127.0.0.1/32            scram-sha-256\r\n\
        host    all             all             ::1/128                 scram-sha-256 # a comment\n\
        \tlocal\treplication     all                                     peer\n\
        hostnogssenc all all 10.0.0.0 255.0.0.0 md5\n";
    let rules = rules(text);
    assert_eq!(rules.iter().map(|rule| rule.place).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    assert_eq!(line(&rules, UNIX, "d", "u"), Some(3));
    assert_eq!(line(&rules, tcp("127.0.0.1"), "d", "u"), Some(4));
    assert_eq!(line(&rules, tcp("::1"), "d", "u"), Some(5));
    assert_eq!(line(&rules, tcp("10.255.0.1"), "d", "u"), Some(7));
    assert_eq!(line(&rules, tcp("11.0.0.1"), "d", "u"), None);
    assert_eq!(line(&rules, tcp("127.0.0.2"), "d", "u"), None);
    let replication = Asked { transport: UNIX, database: None, user: "u" };
    assert_eq!(first(&rules, &replication).map(|rule| rule.place), Some(6), "`all` is not about replication");
}

#[test]
fn the_first_rule_that_fits_counts() {
    let rules = rules(
        "hostssl   a,b  alice       all           trust\n\
         hostnossl a    alice       all           reject\n\
         host      sameuser all     all           md5\n\
         host      all  \"all\"     all           password\n\
         host      all  alice,bob   192.168.0.0/16  md5\n",
    );
    for (transport, database, user, expected) in [
        (tls("1.2.3.4"), "a", "alice", Some(1)),
        (tls("1.2.3.4"), "b", "alice", Some(1)),
        (tcp("1.2.3.4"), "a", "alice", Some(2)),
        (tcp("1.2.3.4"), "b", "alice", None),
        (tcp("1.2.3.4"), "bob", "bob", Some(3)),
        (tls("1.2.3.4"), "bob", "bob", Some(3)),
        (tcp("1.2.3.4"), "c", "all", Some(4)),
        (tcp("1.2.3.4"), "c", "bob", None),
        (tcp("192.168.7.7"), "c", "bob", Some(5)),
        (tcp("::ffff:192.168.7.7"), "c", "bob", Some(5)),
        (tcp("192.169.7.7"), "c", "bob", None),
        (UNIX, "a", "alice", None),
        (tls("1.2.3.4"), "A", "alice", None),
    ] {
        assert_eq!(line(&rules, transport, database, user), expected, "{transport:?} {database} {user}");
    }
}

#[test]
fn quotes_lists_comments_and_continued_lines_are_read_as_postgresql_reads_them() {
    let rules = rules(
        "local \"a b\",\"c\"\"d\", e \"sameuser\" trust\n\
         # nothing \"\n\
         local x \\\n  u \\\n trust\n\
         local \"re\"plication,z u trust\n",
    );
    assert_eq!(rules.iter().map(|rule| rule.place).collect::<Vec<_>>(), [1, 3, 6]);
    for (database, user, expected) in [
        ("a b", "sameuser", Some(1)),
        ("c\"d", "sameuser", Some(1)),
        ("e", "sameuser", Some(1)),
        ("e", "e", None),
        ("x", "u", Some(3)),
        ("replication", "u", Some(6)),
        ("z", "u", Some(6)),
    ] {
        assert_eq!(line(&rules, UNIX, database, user), expected, "{database} {user}");
    }
}

#[test]
fn addresses_are_compared_in_the_bits_of_their_mask() {
    for (network, inside, outside) in [
        ("0.0.0.0/0", "255.1.2.3", "::1"),
        ("::/0", "fe80::1", "1.2.3.4"),
        ("10.1.2.3/8", "10.9.9.9", "11.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
        ("10.1.2.3 255.255.255.0", "10.1.2.9", "10.1.3.3"),
        ("10.1.2.3 255.0.0.255", "10.9.9.3", "10.1.2.4"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("2001:db8:: ffff:ffff::", "2001:db8:1::", "2001:db9::"),
        ("fe80::/10", "febf::1", "fec0::1"),
    ] {
        let rules = rules(&format!("host all all {network} trust"));
        assert_eq!(line(&rules, tcp(inside), "d", "u"), Some(1), "{network} {inside}");
        assert_eq!(line(&rules, tcp(outside), "d", "u"), None, "{network} {outside}");
    }
}

#[test]
fn what_is_wrong_or_not_supported_is_refused_and_never_left_out() {
    for (text, expected) in [
        ("local", "the rule ends before its database"),
        ("local all", "the rule ends before its user"),
        ("local all all", "the rule ends before its method"),
        ("host all all", "the rule ends before its address"),
        ("host all all 10.0.0.1 trust", "the rule ends before its method"),
        ("host all all 10.0.0.1 trust md5", "`trust` is no mask of `10.0.0.1`"),
        ("host all all 10.0.0.1", "the rule ends before its mask"),
        ("host all all 10.0.0.0/33 trust", "the address `10.0.0.0/33`: `/` needs 0 to 32 behind it"),
        ("host all all 10.0.0.0/ trust", "the address `10.0.0.0/`: `/` needs 0 to 32 behind it"),
        ("host all all 10.0.0.0/+8 trust", "the address `10.0.0.0/+8`: `/` needs 0 to 32 behind it"),
        ("host all all ::/129 trust", "the address `::/129`: `/` needs 0 to 128 behind it"),
        ("host all all 10.0.0.0 ::1 trust", "`::1` is no mask of `10.0.0.0`"),
        ("host all all 10.0.0.300/8 trust", "the address `10.0.0.300/8`: it is no IP address"),
        (
            "host all all db.example.com trust",
            "the address `db.example.com`: names of hosts are not supported, write addresses",
        ),
        ("host all all samehost trust", "`samehost` is not supported: write the addresses themselves"),
        ("host all all samenet trust", "`samenet` is not supported: write the addresses themselves"),
        ("hots all all all trust", "the type must be `local`, `host`, `hostssl` or `hostnossl`, not `hots`"),
        (
            "hostgssenc all all all trust",
            "`hostgssenc` is not supported: there is no encryption by GSSAPI here",
        ),
        ("include other.conf", "`include` is not supported: write the rules into one file"),
        (
            "local +admins all trust",
            "`+admins` is not supported: who is a member of what only the server knows",
        ),
        (
            "local all +admins trust",
            "`+admins` is not supported: who is a member of what only the server knows",
        ),
        (
            "local samerole all trust",
            "`samerole` is not supported: who is a member of what only the server knows",
        ),
        ("local all @users trust", "`@users` is not supported: write the names themselves"),
        ("local /^db all trust", "`/^db` is not supported: there are no regular expressions here"),
        ("local \"\" all trust", "the name of a database is empty"),
        ("local \"a all trust", "a quote is not closed"),
        ("host all all all ldap ldapserver=x", "the method `ldap` of PostgreSQL is not supported"),
        ("host all all all cert", "`cert` needs TLS, which is not there yet"),
        ("host all all all peer", "`peer` is for `local` rules only"),
        ("local all all peer map=x", "`map` is not supported: there is no pg_ident.conf here"),
        (
            "hostssl all all all md5 clientcert=verify-ca",
            "client certificates need TLS, which is not there yet",
        ),
        (
            "host all all all md5 cleartext_without_tls=1",
            "`cleartext_without_tls` is for the method `password` only",
        ),
        ("host all all all password cleartext_without_tls=x", "`cleartext_without_tls` must be 0 or 1"),
        ("local all all trust now", "an option must be `name=value`, not `now`"),
        ("local,host all all trust", "the type of a rule is one word, not a list"),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
    assert!(problem("local all all scram").starts_with("the method must be one of `trust`, "));
    let errors = parse("local all all trust\nnonsense\n\nhost all all x trust\n").map(|_| ()).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn clear_text_without_tls_has_to_be_said() {
    let allowed = |text: &str| rules(text)[0].cleartext_without_tls;
    assert!(!allowed("host all all all password"));
    assert!(!allowed("host all all all password cleartext_without_tls=0"));
    assert!(allowed("host all all all password cleartext_without_tls=1"));
}

#[test]
fn a_file_has_a_bounded_number_of_rules() {
    assert!(parse(&"local all all trust\n".repeat(10_000)).is_ok());
    assert!(parse(&"local all all trust\n".repeat(10_001)).is_err());
}
