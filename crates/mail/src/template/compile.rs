//! Turns pieces into a flat list of steps with jumps, and finds the place of every output.
//!
//! Not responsible for running them. Sources are hostile: work and memory grow with their length and no faster, and
//! nothing recurses deeper than `MAX_NESTING` and `MAX_OPERATORS` allow. To add a tag: an arm in `tag`, and a frame where it has a body.

use std::sync::Arc;

use super::context::{Place, State};
use super::expression::{Expr, Filtered, Operator, Parser, Part, Problem, fold, too_many_parts};
use super::lexer::{Piece, pieces};
use super::{Kind, MAX_NESTING, MAX_PARTS, MAX_SOURCE, ParseError, error_at, shorten};

/// One step of a compiled template.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Text(Box<str>),
    Output(Filtered, Place),
    /// Jump unless the condition holds.
    Unless(Expr, usize),
    Jump(usize),
    Assign(String, Filtered),
    /// Begin a loop; jump to `end` when there is nothing to loop over.
    For {
        variable: String,
        over: Filtered,
        limit: Option<Expr>,
        offset: Option<Expr>,
        reversed: bool,
        end: usize,
    },
    /// Next turn: jump back to `body`, or leave the loop.
    Next {
        body: usize,
    },
    /// Leave the innermost loop and jump.
    Break(usize),
}

impl Op {
    pub(super) fn uses(&self, name: &str) -> bool {
        let folded = fold(name);
        let filtered = |f: &Filtered| {
            names(&f.value, &folded) || f.filters.iter().any(|(_, a)| a.iter().any(|e| names(e, &folded)))
        };
        match self {
            Self::Output(f, _) | Self::Assign(_, f) => filtered(f),
            Self::For { over, .. } => filtered(over),
            Self::Unless(e, _) => names(e, &folded),
            _ => false,
        }
    }
}

fn names(expression: &Expr, folded: &str) -> bool {
    match expression {
        Expr::Path(_, parts) => parts.iter().any(|part| matches!(part, Part::Name(name) if name == folded)),
        Expr::Binary(a, _, b) | Expr::Range(a, b) => names(a, folded) || names(b, folded),
        Expr::Among(a, choices) => names(a, folded) || choices.iter().any(|choice| names(choice, folded)),
        Expr::Literal(_) | Expr::Nothing => false,
    }
}

/// An open tag.
struct Frame {
    name: &'static str,
    begin: usize,
    /// Where the branches began, and where the first one ended.
    entry: State,
    exit: Option<State>,
    /// The jump to the next branch, to be aimed.
    pending: Option<usize>,
    /// Jumps to the end, to be aimed.
    ends: Vec<usize>,
    /// The value that `when` compares with.
    subject: Option<Arc<Expr>>,
    /// A loop's begin, and its `break`s.
    loop_start: Option<usize>,
    breaks: Vec<usize>,
    has_else: bool,
}

struct Compiler<'a> {
    source: &'a str,
    kind: Kind,
    ops: Vec<Op>,
    frames: Vec<Frame>,
    state: State,
    /// Pieces of the source, and values, names and filters so far.
    parts: usize,
}

pub(super) fn compile(source: &str, kind: Kind) -> Result<Vec<Op>, ParseError> {
    if source.len() > MAX_SOURCE {
        return Err(error_at(source, 0, format!("template is larger than {MAX_SOURCE} bytes")));
    }
    if kind == Kind::Header
        && let Some(at) = source.find(|c: char| c.is_control())
    {
        return Err(error_at(source, at, "a subject or name holds a control character (hint: write it on one line)"));
    }
    let pieces = pieces(source)?;
    if pieces.len() > MAX_PARTS {
        return Err(error_at(source, 0, too_many_parts()));
    }
    let mut compiler =
        Compiler { source, kind, ops: Vec::new(), frames: Vec::new(), state: State::Text, parts: pieces.len() };
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                compiler.advance(|state| state.after_text(text));
                compiler.ops.push(Op::Text(text.into()));
            }
            Piece::Output(body, at) => compiler.output(body, at)?,
            Piece::Tag(name, arguments, at) => compiler.tag(name, arguments, at)?,
        }
    }
    match compiler.frames.last() {
        Some(frame) => Err(error_at(
            source,
            frame.begin,
            format!("`{{% {0} %}}` is never closed (hint: write `{{% end{0} %}}`)", frame.name),
        )),
        None => Ok(compiler.ops),
    }
}

impl Compiler<'_> {
    fn advance(&mut self, step: impl FnOnce(State) -> State) {
        if self.kind == Kind::Html {
            self.state = step(std::mem::replace(&mut self.state, State::Text));
        }
    }

    /// Parses `text`, which stands somewhere behind `at`, and places its problems.
    fn parse<T>(
        &mut self,
        text: &str,
        at: usize,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, Problem>,
    ) -> Result<T, ParseError> {
        let mut parser = Parser::new(text, self.parts);
        let read = read(&mut parser);
        self.parts = parser.parts;
        read.map_err(|(offset, message)| {
            let from = self.source[at..].find(text).map_or(at, |o| at + o);
            error_at(self.source, from + offset, message)
        })
    }

    fn whole<T>(
        &mut self,
        text: &str,
        at: usize,
        read: impl FnOnce(&mut Parser<'_>) -> Result<T, Problem>,
    ) -> Result<T, ParseError> {
        self.parse(text, at, |parser| {
            let value = read(parser)?;
            if parser.at_end() { Ok(value) } else { Err((0, format!("`{}` is not understood", shorten(text)))) }
        })
    }

    fn output(&mut self, body: &str, at: usize) -> Result<(), ParseError> {
        if body.is_empty() {
            return Err(error_at(self.source, at, "`{{ }}` is empty (hint: write a name, e.g. {{ first_name }})"));
        }
        let filtered = self.parse(body, at, |parser| parser.filtered())?;
        let place = if self.kind == Kind::Html { self.state.place() } else { Place::Markup };
        self.advance(State::after_value);
        self.ops.push(Op::Output(filtered, place));
        Ok(())
    }

    fn tag(&mut self, name: &str, arguments: &str, at: usize) -> Result<(), ParseError> {
        match name {
            "if" | "unless" => self.open_condition(name, arguments, at),
            "elsif" => self.branch("elsif", &["if"], Some(arguments), at),
            "else" => self.branch("else", &["if", "unless", "case", "for"], None, at),
            "case" => self.open_case(arguments, at),
            "when" => self.when(arguments, at),
            "for" => self.open_for(arguments, at),
            "break" | "continue" => self.leave(name, at),
            "assign" => self.assign(arguments, at),
            "endif" => self.close("if", at),
            "endunless" => self.close("unless", at),
            "endcase" => self.close("case", at),
            "endfor" => self.close("for", at),
            "" => Err(error_at(self.source, at, "`{% %}` is empty (hint: write a tag, e.g. {% if company %})")),
            _ => Err(error_at(
                self.source,
                at,
                format!(
                    "there is no tag `{}` (hint: if, unless, elsif, else, case, when, for, break, continue, assign, comment, raw)",
                    shorten(name)
                ),
            )),
        }
    }

    fn push_frame(&mut self, name: &'static str, begin: usize) -> Result<&mut Frame, ParseError> {
        if self.frames.len() >= MAX_NESTING {
            return Err(error_at(self.source, begin, format!("more than {MAX_NESTING} tags stand within each other")));
        }
        self.frames.push(Frame {
            name,
            begin,
            entry: self.state.clone(),
            exit: None,
            pending: None,
            ends: Vec::new(),
            subject: None,
            loop_start: None,
            breaks: Vec::new(),
            has_else: false,
        });
        let last = self.frames.len() - 1;
        Ok(&mut self.frames[last])
    }

    fn open_condition(&mut self, name: &str, arguments: &str, at: usize) -> Result<(), ParseError> {
        let condition = self.whole(arguments, at, |p| p.comparison(0))?;
        let position = self.ops.len();
        let frame = self.push_frame(if name == "if" { "if" } else { "unless" }, at)?;
        frame.pending = Some(position);
        if name == "if" {
            self.ops.push(Op::Unless(condition, 0));
        } else {
            let negated = Expr::Binary(Box::new(condition), Operator::Equal, Box::new(Expr::Literal(false.into())));
            self.ops.push(Op::Unless(negated, 0));
        }
        Ok(())
    }

    fn open_case(&mut self, arguments: &str, at: usize) -> Result<(), ParseError> {
        let subject = self.whole(arguments, at, |p| p.comparison(0))?;
        let position = self.ops.len();
        let frame = self.push_frame("case", at)?;
        frame.subject = Some(Arc::new(subject));
        frame.pending = Some(position);
        // Text before the first `when` is never shown.
        self.ops.push(Op::Jump(0));
        Ok(())
    }

    fn when(&mut self, arguments: &str, at: usize) -> Result<(), ParseError> {
        let values = self.whole(arguments, at, |parser| {
            let mut values = vec![parser.primary()?];
            while parser.take(",") || parser.take("or") {
                values.push(parser.primary()?);
            }
            Ok(values)
        })?;
        // Before the first `when` the jump over text that is never shown is still to be aimed.
        let pending = self.frames.last().and_then(|frame| frame.pending);
        let first = pending.is_some_and(|position| matches!(self.ops[position], Op::Jump(_)));
        self.end_branch(&["case"], "when", at, !first)?;
        let position = self.ops.len();
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        frame.pending = Some(position);
        let subject = frame.subject.clone().unwrap_or_else(|| Arc::new(Expr::Nothing));
        self.ops.push(Op::Unless(Expr::Among(subject, values), 0));
        Ok(())
    }

    fn open_for(&mut self, arguments: &str, at: usize) -> Result<(), ParseError> {
        let op = self.whole(arguments, at, |parser| {
            let variable = fold(parser.word()?);
            if !parser.take("in") {
                return Err((0, "a loop is written `for item in list`".to_owned()));
            }
            let over = Filtered { value: parser.primary()?, filters: Vec::new() };
            let (mut limit, mut offset, mut reversed) = (None, None, false);
            while !parser.at_end() {
                if parser.take("reversed") {
                    reversed = true;
                } else if parser.take("limit") && parser.take(":") {
                    limit = Some(parser.primary()?);
                } else if parser.take("offset") && parser.take(":") {
                    offset = Some(parser.primary()?);
                } else {
                    return Err((0, "a loop knows `limit: n`, `offset: n` and `reversed`".to_owned()));
                }
            }
            Ok(Op::For { variable, over, limit, offset, reversed, end: 0 })
        })?;
        let position = self.ops.len();
        let frame = self.push_frame("for", at)?;
        frame.pending = Some(position);
        frame.loop_start = Some(position);
        self.ops.push(op);
        Ok(())
    }

    fn leave(&mut self, name: &str, at: usize) -> Result<(), ParseError> {
        let position = self.ops.len();
        let source = self.source;
        let frame = self.frames.iter_mut().rev().find(|f| f.name == "for" && !f.has_else);
        let Some(frame) = frame else {
            return Err(error_at(source, at, format!("`{{% {name} %}}` stands outside a loop")));
        };
        if name == "break" {
            frame.breaks.push(position);
            self.ops.push(Op::Break(0));
        } else {
            let body = frame.loop_start.unwrap_or(0) + 1;
            self.ops.push(Op::Next { body });
            // A finished loop falls through here: it must leave as well.
            frame.breaks.push(position + 1);
            self.ops.push(Op::Jump(0));
        }
        Ok(())
    }

    fn assign(&mut self, arguments: &str, at: usize) -> Result<(), ParseError> {
        let (name, value) = self.parse(arguments, at, |parser| {
            let name = fold(parser.word()?);
            if !parser.take("=") {
                return Err((0, "an assignment is written `assign name = value`".to_owned()));
            }
            Ok((name, parser.filtered()?))
        })?;
        self.ops.push(Op::Assign(name, value));
        Ok(())
    }

    fn branch(&mut self, tag: &str, of: &[&str], condition: Option<&str>, at: usize) -> Result<(), ParseError> {
        let condition = condition.map(|text| self.whole(text, at, |p| p.comparison(0))).transpose()?;
        if tag == "else" && self.frames.last().is_some_and(|f| f.name == "for") {
            self.close_loop_body(at)?;
        } else {
            self.end_branch(of, tag, at, true)?;
        }
        let position = self.ops.len();
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        match condition {
            Some(condition) => {
                frame.pending = Some(position);
                self.ops.push(Op::Unless(condition, 0));
            }
            None => frame.has_else = true,
        }
        Ok(())
    }

    /// Ends a branch: its end jumps behind everything, the next branch begins where the first one did.
    fn end_branch(&mut self, of: &[&str], tag: &str, at: usize, jump: bool) -> Result<(), ParseError> {
        let fits = self.frames.last().is_some_and(|f| of.contains(&f.name) && !f.has_else);
        if !fits {
            let message = format!("`{{% {tag} %}}` stands alone (hint: it belongs into an open {})", of.join(", "));
            return Err(error_at(self.source, at, message));
        }
        if jump {
            self.check_exit(at)?;
            let position = self.ops.len();
            self.ops.push(Op::Jump(0));
            if let Some(frame) = self.frames.last_mut() {
                frame.ends.push(position);
            }
        }
        self.aim_pending();
        if let Some(frame) = self.frames.last() {
            self.state = frame.entry.clone();
        }
        Ok(())
    }

    /// Branches of one tag must leave HTML in the same place, or nobody could say how what follows is escaped.
    fn check_exit(&mut self, at: usize) -> Result<(), ParseError> {
        let (source, state) = (self.source, self.state.clone());
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        match &frame.exit {
            Some(exit) if !exit.meets(&state) => Err(error_at(
                source,
                at,
                format!(
                    "the branches of `{{% {} %}}` end in different places of the HTML (hint: open and close tags and quotes within each branch)",
                    frame.name
                ),
            )),
            Some(_) => Ok(()),
            None => {
                frame.exit = Some(state);
                Ok(())
            }
        }
    }

    fn aim_pending(&mut self) {
        let here = self.ops.len();
        if let Some(position) = self.frames.last_mut().and_then(|frame| frame.pending.take()) {
            self.aim(position, here);
        }
    }

    fn aim(&mut self, position: usize, target: usize) {
        match &mut self.ops[position] {
            Op::Unless(_, to) | Op::Jump(to) | Op::Break(to) | Op::For { end: to, .. } => *to = target,
            Op::Text(_) | Op::Output(..) | Op::Assign(..) | Op::Next { .. } => {}
        }
    }

    fn close_loop_body(&mut self, at: usize) -> Result<(), ParseError> {
        let (source, state) = (self.source, self.state.clone());
        let position = self.ops.len();
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if !frame.entry.meets(&state) {
            return Err(error_at(
                source,
                at,
                "a loop's body ends in another place of the HTML than it began (hint: close tags and quotes inside it)",
            ));
        }
        let body = frame.loop_start.unwrap_or(0) + 1;
        frame.ends.push(position + 1);
        self.ops.push(Op::Next { body });
        self.ops.push(Op::Jump(0));
        self.aim_pending();
        Ok(())
    }

    fn close(&mut self, name: &str, at: usize) -> Result<(), ParseError> {
        match self.frames.last() {
            Some(frame) if frame.name == name => {}
            Some(frame) => {
                let open = frame.name;
                let message =
                    format!("`{{% end{name} %}}` closes nothing (hint: `{{% {open} %}}` is open, close it first)");
                return Err(error_at(self.source, at, message));
            }
            None => {
                let message =
                    format!("`{{% end{name} %}}` closes nothing (hint: there is no `{{% {name} %}}` before it)");
                return Err(error_at(self.source, at, message));
            }
        }
        if name == "for" && !self.frames.last().is_some_and(|f| f.has_else) {
            self.close_loop_body(at)?;
        } else {
            self.check_exit(at)?;
            // Without `else` the tag may also do nothing: what follows must fit the entry as well.
            if let Some(frame) = self.frames.last()
                && !frame.has_else
                && !frame.entry.meets(&self.state)
            {
                return Err(error_at(
                    self.source,
                    at,
                    format!(
                        "`{{% {name} %}}` ends in another place of the HTML than it began (hint: open and close tags and quotes inside it)"
                    ),
                ));
            }
        }
        self.aim_pending();
        let here = self.ops.len();
        if let Some(frame) = self.frames.pop() {
            for position in frame.ends.iter().chain(&frame.breaks) {
                self.aim(*position, here);
            }
        }
        Ok(())
    }
}
