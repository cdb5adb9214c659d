//! The macro behind every closed set of words: one list gives the enum, its text in SQL and JSON, and its parser.
//!
//! Not responsible for any particular set: those stand in the module of the thing they describe.
//! To add a set: call `words!` there; input-only spellings go behind `|`.

/// A text that is not a member of a closed set of words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what} (hint: one of {allowed})")]
pub struct UnknownWord {
    /// What was expected, e.g. `campaign status`.
    pub what: &'static str,
    /// The text that was found, cut to 64 characters.
    pub found: String,
    /// The words that are allowed, for people.
    pub allowed: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every member, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The word as SQL, JSON and people see it.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::words::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text $(| $alias)* => Ok(Self::$variant),)*
                    _ => Err($crate::words::UnknownWord {
                        what: $what,
                        found: text.chars().take(64).collect(),
                        allowed: [$($text),*].join(", "),
                    }),
                }
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use words;
