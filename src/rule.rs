//! The rules of read-only routes: why something that a client sent does not go to the server. Their names are the
//! labels of metrics, and stand in errors and in the log.

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal,)*) => {
        /// Why something does not go to the server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule, for metrics.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$rule),*];

            /// Its name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)*
                }
            }
        }
    };
}

rules! {
    /// It changes rows.
    Write = "write",
    /// It makes or changes objects, or rights.
    Definition = "definition",
    /// COPY from the client, or from or to a file or program of the server.
    Copy = "copy",
    /// EXPLAIN ANALYZE runs what it explains, and that makes something.
    Explain = "explain",
    /// It leaves read-only mode, or might.
    Mode = "mode",
    /// A setting that is not known to be harmless.
    Setting = "setting",
    /// `set_config` of a name that does not stand in the text.
    SetConfig = "set_config",
    /// An encoding or a kind of strings in which later texts could not be read before they are sent.
    Encoding = "encoding",
    /// It becomes another role.
    Role = "role",
    /// DO and CALL run what nobody sees.
    Procedure = "procedure",
    /// It writes a large object.
    LargeObject = "large_object",
    /// A function runs SQL that it is given as a string, or by the name of a relation.
    HiddenSql = "hidden_sql",
    /// It acts in a session of its own on this server or another.
    OtherSession = "other_session",
    /// A function of PostgreSQL's own that is not known to be harmless.
    Function = "function",
    /// A function that the route does not list.
    Unlisted = "unlisted_function",
    /// It moves a sequence.
    Sequence = "sequence",
    /// It takes a lock that others wait for.
    Lock = "lock",
    /// Two-phase commit.
    TwoPhase = "two_phase",
    /// NOTIFY, where the route does not allow it.
    Notify = "notify",
    /// VACUUM, ANALYZE, CHECKPOINT and the like.
    Maintenance = "maintenance",
    /// A FunctionCall message.
    FunctionCall = "function_call",
    /// Nobody can tell what it does: too long, nested too deep, or bytes that make no text.
    Unread = "unread",
    /// PostgreSQL's grammar does not take it.
    Syntax = "syntax",
    /// It would need a transaction that is committed, on a route that commits none.
    Strict = "strict",
    /// A kind of statement that is not known to be harmless.
    Statement = "statement",
}

impl Rule {
    /// Its place in [`Rule::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The SQLSTATE of its errors: `read_only_sql_transaction`, as PostgreSQL has it in read-only transactions,
    /// `feature_not_supported`, and `syntax_error`.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::Syntax => "42601",
            Self::Strict => "0A000",
            _ => "25006",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::Rule;

    #[test]
    fn every_rule_has_its_place_and_a_name_of_its_own() {
        let names: HashSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        assert!(Rule::ALL.iter().enumerate().all(|(place, rule)| rule.index() == place));
    }
}
