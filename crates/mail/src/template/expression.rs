//! Expressions inside outputs and tags: values, paths, comparisons and filters, by precedence climbing.
//!
//! Not responsible for evaluating them (`render`). To add an operator: `Operator::of` and its arm in `render`.

use std::sync::Arc;

use super::filters::{Filter, nearest_filter};
use super::{MAX_NAME, MAX_NESTING, MAX_OPERATORS, MAX_PARTS, shorten};

/// A value that an expression names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// A literal.
    Literal(serde_json::Value),
    /// `nil`, `empty` and `blank` compare as "nothing there".
    Nothing,
    /// A path: the name as written (for warnings, so its beginning is enough) and its parts.
    Path(String, Vec<Part>),
    /// `(a..b)`.
    Range(Box<Expr>, Box<Expr>),
    /// Two sides of a comparison.
    Binary(Box<Expr>, Operator, Box<Expr>),
    /// Whether the first equals one of the others: `when`.
    Among(Arc<Expr>, Vec<Expr>),
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// `.name`, folded: lower case without underscores, so both casings meet.
    Name(String),
    /// `[expression]`.
    Index(Expr),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    Greater,
    LessEqual,
    GreaterEqual,
    Contains,
}

impl Operator {
    fn of(token: &str) -> Option<(Self, u8)> {
        Some(match token {
            "or" => (Self::Or, 1),
            "and" => (Self::And, 2),
            "==" => (Self::Equal, 3),
            "!=" | "<>" => (Self::NotEqual, 3),
            "<" => (Self::Less, 3),
            ">" => (Self::Greater, 3),
            "<=" => (Self::LessEqual, 3),
            ">=" => (Self::GreaterEqual, 3),
            "contains" => (Self::Contains, 3),
            _ => return None,
        })
    }
}

/// An expression with its filters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filtered {
    pub(super) value: Expr,
    pub(super) filters: Vec<(Filter, Vec<Expr>)>,
}

/// Folds a name so that `first_name`, `firstName` and `FirstName` are one.
pub(super) fn fold(name: &str) -> String {
    name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// What is said where a template has more parts than it may.
pub(super) fn too_many_parts() -> String {
    format!("template has more than {MAX_PARTS} outputs, tags, values and filters")
}

/// A parse problem: the offset within the expression and what is wrong.
pub(super) type Problem = (usize, String);

pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    operators: usize,
    /// Values, names and filters so far, in the whole template.
    pub(super) parts: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, parts: usize) -> Self {
        Self { text, at: 0, depth: 0, operators: 0, parts }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    fn problem<T>(&self, message: impl Into<String>) -> Result<T, Problem> {
        Err((self.at, message.into()))
    }

    /// Counts one more part.
    fn part(&mut self) -> Result<(), Problem> {
        self.parts += 1;
        if self.parts > MAX_PARTS { self.problem(too_many_parts()) } else { Ok(()) }
    }

    /// The next token, not taken: a word, an operator or one character.
    fn peek(&mut self) -> &'a str {
        self.skip_space();
        let rest = self.rest();
        for symbol in ["==", "!=", "<>", "<=", ">=", ".."] {
            if rest.starts_with(symbol) {
                return &rest[..2];
            }
        }
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '-').len();
        let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
        &rest[..length]
    }

    pub(super) fn take(&mut self, token: &str) -> bool {
        let found = self.peek() == token && !token.is_empty();
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn word(&mut self) -> Result<&'a str, Problem> {
        let token = self.peek();
        if !token.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return self
                .problem(format!("a name is missing before `{}`", self.rest().chars().take(20).collect::<String>()));
        }
        if token.len() > MAX_NAME {
            return self.problem(format!("a name is longer than {MAX_NAME} bytes"));
        }
        self.at += token.len();
        Ok(token)
    }

    /// `value | filter: a, b | filter`, to the end of the text.
    pub(super) fn filtered(&mut self) -> Result<Filtered, Problem> {
        let value = self.comparison(0)?;
        let mut filters = Vec::new();
        while self.take("|") {
            filters.push(self.filter()?);
        }
        if !self.at_end() {
            return self
                .problem(format!("`{}` is not expected here", self.rest().chars().take(20).collect::<String>()));
        }
        Ok(Filtered { value, filters })
    }

    fn filter(&mut self) -> Result<(Filter, Vec<Expr>), Problem> {
        self.part()?;
        self.skip_space();
        // The short form: {{firstName|there}}, {{firstName|"dear friend"}}, {{firstName|dear friend}}.
        let start = self.at;
        let until = self.rest().find('|').unwrap_or(self.rest().len());
        let whole = self.rest()[..until].trim();
        if whole.is_empty() {
            return self.problem("a filter or a fallback is missing behind `|`");
        }
        if !whole.starts_with(['"', '\'']) {
            let name = self.peek();
            if let Some(filter) = Filter::named(name) {
                self.at += name.len();
                return Ok((filter, self.arguments(filter)?));
            }
            if whole.contains(':') {
                self.at = start;
                let hint =
                    nearest_filter(name).map_or(String::new(), |near| format!(" (hint: did you mean `{near}`?)"));
                return self.problem(format!("there is no filter `{}`{hint}", shorten(name)));
            }
            self.at = start + until;
            return Ok((Filter::Default, vec![Expr::Literal(whole.into())]));
        }
        let text = self.primary()?;
        Ok((Filter::Default, vec![text]))
    }

    fn arguments(&mut self, filter: Filter) -> Result<Vec<Expr>, Problem> {
        let mut arguments = Vec::new();
        if self.take(":") {
            loop {
                arguments.push(self.primary()?);
                if !self.take(",") {
                    break;
                }
            }
        }
        let (least, most) = filter.arguments();
        if !(least..=most).contains(&arguments.len()) {
            return self.problem(format!(
                "filter `{}` takes {least} to {most} arguments, found {}",
                filter.name(),
                arguments.len()
            ));
        }
        Ok(arguments)
    }

    pub(super) fn comparison(&mut self, least: u8) -> Result<Expr, Problem> {
        let mut left = self.primary()?;
        while let Some((operator, binding)) = Operator::of(self.peek()) {
            if binding <= least {
                break;
            }
            self.at += self.peek().len();
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return self.problem(format!("expression has more than {MAX_OPERATORS} operators"));
            }
            let right = self.comparison(binding)?;
            left = Expr::Binary(Box::new(left), operator, Box::new(right));
        }
        Ok(left)
    }

    /// One value, which may hold others in its brackets.
    pub(super) fn primary(&mut self) -> Result<Expr, Problem> {
        self.part()?;
        if self.depth == MAX_NESTING {
            return self.problem(format!("more than {MAX_NESTING} values stand within each other"));
        }
        self.depth += 1;
        let value = self.unnested();
        self.depth -= 1;
        value
    }

    fn unnested(&mut self) -> Result<Expr, Problem> {
        self.skip_space();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return self.problem("a value is missing") };
        if first == '"' || first == '\'' {
            let Some(length) = rest[1..].find(first) else {
                return self.problem(format!("the text that begins with {first} is never closed"));
            };
            self.at += length + 2;
            return Ok(Expr::Literal(rest[1..=length].into()));
        }
        if first.is_ascii_digit() || (first == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        if self.take("(") {
            let from = self.primary()?;
            if !self.take("..") {
                return self.problem("a range is written (1..3)");
            }
            let to = self.primary()?;
            if !self.take(")") {
                return self.problem("a range is closed by `)`");
            }
            return Ok(Expr::Range(Box::new(from), Box::new(to)));
        }
        let start = self.at;
        match self.word()? {
            "true" => Ok(Expr::Literal(true.into())),
            "false" => Ok(Expr::Literal(false.into())),
            "nil" | "null" | "empty" | "blank" => Ok(Expr::Nothing),
            name => self.path(name, start),
        }
    }

    fn number(&mut self) -> Result<Expr, Problem> {
        let rest = self.rest();
        let mut length = rest.len() - rest[1..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let tail = &rest[length..];
        if tail.starts_with('.') && tail[1..].starts_with(|c: char| c.is_ascii_digit()) {
            length = rest.len() - tail[1..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        }
        let text = &rest[..length];
        self.at += length;
        let whole = text.parse::<i64>().ok().map(serde_json::Value::from);
        let value = whole.or_else(|| text.parse::<f64>().ok().map(serde_json::Value::from));
        value.map(Expr::Literal).ok_or((self.at, format!("`{}` is not a number", shorten(text))))
    }

    fn path(&mut self, name: &str, start: usize) -> Result<Expr, Problem> {
        let mut parts = vec![Part::Name(fold(name))];
        loop {
            let rest = self.rest();
            if rest.starts_with('.') && !rest.starts_with("..") {
                self.at += 1;
                self.part()?;
                parts.push(Part::Name(fold(self.word()?)));
            } else if rest.starts_with('[') {
                self.at += 1;
                let index = self.primary()?;
                if !self.take("]") {
                    return self.problem("`[` is closed by `]`");
                }
                parts.push(Part::Index(index));
            } else {
                return Ok(Expr::Path(shorten(self.text[start..self.at].trim()), parts));
            }
        }
    }
}
