//! `docs/criu-coverage.md` against what it is about: `proto/rpc.proto`, the table of options, the
//! hooks, and the public items of this crate and of plain processes.

#![expect(clippy::tests_outside_test_module, reason = "this whole file is one")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use stasis_criu::{
    Hook, Request,
    options::{Key, Row, table},
};

const DOCUMENT: &str = include_str!("../../../docs/criu-coverage.md");
const PROTO: &str = include_str!("../proto/rpc.proto");
/// A cell that says that there is nothing to say.
const DASH: &str = "–";

/// The rows of the document, without heads: for each section its cells, row by row.
type Document = BTreeMap<String, Vec<Vec<String>>>;

fn parse(text: &str) -> Document {
    let mut document = Document::new();
    let mut section = String::new();
    let mut before_body = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut section);
            before_body = 2;
        }
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            continue;
        };
        if before_body > 0 {
            before_body -= 1;
            continue;
        }
        let cells = row.split('|').map(|cell| cell.trim().to_owned());
        let rows = document.entry(section.clone()).or_default();
        rows.push(cells.collect());
    }
    document
}

/// The texts between backticks.
fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn section<'a>(document: &'a Document, name: &str) -> &'a [Vec<String>] {
    document.get(name).map_or(&[], Vec::as_slice)
}

/// The first cells of a section's rows, as far as they are looked at, without backticks.
fn firsts(document: &Document, name: &str, count: usize) -> BTreeSet<Vec<String>> {
    let first = |row: &Vec<String>| {
        let cells = row.iter().take(count);
        cells.map(|cell| cell.replace('`', "")).collect()
    };
    section(document, name).iter().map(first).collect()
}

/// What is in only one of the two.
fn differences(
    section: &str,
    there: &BTreeSet<Vec<String>>,
    wanted: &BTreeSet<Vec<String>>,
) -> Vec<String> {
    there
        .symmetric_difference(wanted)
        .map(|row| match wanted.contains(row) {
            true => format!("{section}: there is no row {row:?}"),
            false => format!("{section}: the row {row:?} is of nothing"),
        })
        .collect()
}

/// The members of the messages and enums in `rpc.proto`: name of the type, name, number.
fn members() -> Vec<[String; 3]> {
    let mut members = Vec::new();
    let mut of = "";
    for line in PROTO.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["message" | "enum", name, "{"] => of = name,
            [.., name, "=", number, _, "=", _] | [.., name, "=", number] if !of.is_empty() => {
                let number = number.trim_end_matches(';');
                members.push([of, name, number].map(str::to_owned));
            }
            _ => {}
        }
    }
    members
}

fn requests(document: &Document) -> Vec<String> {
    let wanted = members()
        .into_iter()
        .filter(|[of, ..]| of == "criu_req_type")
        .map(|[_, name, number]| vec![name, number])
        .collect();
    differences("Requests", &firsts(document, "Requests", 2), &wanted)
}

fn messages(document: &Document) -> Vec<String> {
    let wanted: BTreeSet<_> = members()
        .into_iter()
        .filter(|[of, ..]| !ENUMS.contains(&of.as_str()) && of != "criu_opts")
        .map(|member| member[..].to_vec())
        .filter(|member| member[0] != "criu_req_type")
        .collect();
    differences("Messages", &firsts(document, "Messages", 3), &wanted)
}

/// The enums of the options.
const ENUMS: [&str; 3] = [
    "criu_cg_mode",
    "criu_network_lock_method",
    "criu_pre_dump_mode",
];

fn values(document: &Document) -> Vec<String> {
    let wanted = members()
        .into_iter()
        .filter(|[of, ..]| ENUMS.contains(&of.as_str()))
        .map(|member| member.to_vec())
        .collect();
    differences("Values", &firsts(document, "Values", 3), &wanted)
}

fn hooks(document: &Document) -> Vec<String> {
    let wanted = Hook::ALL
        .iter()
        .map(|hook| vec![hook.script().to_owned()])
        .chain([vec![String::from("any other")]])
        .collect();
    differences("Hooks", &firsts(document, "Hooks", 1), &wanted)
}

/// Every field of `criu_opts`, and for each what the table of options says of it.
fn options(document: &Document) -> Vec<String> {
    let there: BTreeSet<_> = section(document, "Options")
        .iter()
        .filter_map(|row| match row.as_slice() {
            [number, name, since, requests, _, key] => {
                let name = name.replace('`', "");
                Some([number, &name, since, requests, key].map(String::clone))
            }
            _ => None,
        })
        .map(Vec::from)
        .collect();
    let of_table = table()
        .map(|row| {
            let number = row.number.to_string();
            let (name, since) = (row.name.to_owned(), row.since.to_string());
            vec![number, name, since, takers(row), key(row)]
        })
        .collect();
    let named: BTreeSet<_> = there
        .iter()
        .map(|row| [1, 0].map(|i| row[i].clone()))
        .collect();
    let of_proto: BTreeSet<_> = members()
        .into_iter()
        .filter(|[of, ..]| of == "criu_opts")
        .map(|[_, name, number]| [name, number])
        .collect();
    let mut complaints = differences("Options", &there, &of_table);
    if named != of_proto {
        complaints.push(String::from("Options: not the fields of criu_opts"));
    }
    complaints
}

/// The requests that an option is for, in the document's words.
fn takers(row: &Row) -> String {
    let takes = |request| row.requests.contains(&request);
    if takes(Request::Check) {
        return String::from("all");
    }
    let words = [
        (
            "dumps",
            takes(Request::PreDump) && takes(Request::SinglePreDump),
        ),
        ("dump", takes(Request::Dump) && !takes(Request::PreDump)),
        ("restore", takes(Request::Restore)),
        (
            "page servers",
            takes(Request::PageServer) && takes(Request::PageServerChild),
        ),
        (
            "cpuinfo",
            takes(Request::CpuinfoDump) && takes(Request::CpuinfoCheck),
        ),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(_, is)| *is)
        .map(|(word, _)| *word)
        .collect();
    words.join(", ")
}

fn key(row: &Row) -> String {
    match row.key {
        Key::Named(key) => format!("`{key}`"),
        Key::Exclusive { key, .. } => {
            format!("`{key}`; refused where another request that reads the file would be harmed")
        }
        Key::Several(keys) => format!("`{}`", keys.join("`, `")),
        Key::None(reason) => format!("none: {reason}"),
    }
}

/// The public items: a type's name, a type's with a member's, a function's.
struct Items(BTreeSet<String>);

impl Items {
    fn read() -> Self {
        let mut items = Self(BTreeSet::new());
        for sources in ["src", "../plain/src"] {
            items.read_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join(sources));
        }
        items
    }

    fn read_directory(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.read_directory(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                self.read_file(&fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// Goes by the form that rustfmt gives to sources: what a type has is one step to the right,
    /// its setters are one more, and its last brace is not.
    fn read_file(&mut self, text: &str) {
        let mut block: Option<(&str, String)> = None;
        for line in text.lines() {
            if line.starts_with('}') {
                block = None;
            } else if let Some(member) = line.strip_prefix("    ")
                && let Some((kind, of)) = &block
            {
                let setter = member.strip_prefix("    ");
                let setter = setter.filter(|member| member.starts_with("pub fn "));
                self.read_member(kind, of, setter.unwrap_or(member));
            } else if line.starts_with(char::is_alphabetic) {
                block = self.read_head(line);
            }
        }
    }

    /// What stands at the left: something with members is given back.
    fn read_head<'a>(&mut self, line: &'a str) -> Option<(&'a str, String)> {
        let (line, is_public) = match line.strip_prefix("pub ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let line = line
            .trim_start_matches("async ")
            .trim_start_matches("const ");
        let (kind, rest) = line.split_once([' ', '<'])?;
        match kind {
            "impl" if !line.contains(" for ") => {
                let of = line.split_once("> ").map_or(rest, |(_, of)| of);
                Some((kind, identifier(of).to_owned()))
            }
            "struct" | "enum" | "trait" | "type" | "fn" if is_public => {
                let name = identifier(rest).to_owned();
                self.0.insert(name.clone());
                line.ends_with('{').then_some((kind, name))
            }
            _ => None,
        }
    }

    fn read_member(&mut self, kind: &str, of: &str, member: &str) {
        let public = member.strip_prefix("pub ");
        let name = match kind {
            "impl" => public.and_then(function),
            "trait" => function(member),
            "struct" => public,
            "enum" => Some(member).filter(|name| name.starts_with(char::is_uppercase)),
            _ => None,
        };
        if let Some(name) = name {
            self.0.insert(format!("{of}::{}", identifier(name)));
        }
    }
}

fn function(text: &str) -> Option<&str> {
    text.trim_start_matches("const ")
        .trim_start_matches("async ")
        .strip_prefix("fn ")
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The column that says what is ours, of each section.
fn column_of_ours(section: &str) -> usize {
    match section {
        "Requests" | "runc's `CriuOpts`" => 3,
        "Options" | "Values" | "Messages" => 4,
        "Hooks" => 2,
        _ => 1,
    }
}

/// Cells without words, and items that are not there.
fn cells(document: &Document, items: &Items) -> Vec<String> {
    let mut complaints = Vec::new();
    for (section, rows) in document {
        for row in rows {
            let ours = row.get(column_of_ours(section)).map_or("", String::as_str);
            if row.iter().any(String::is_empty) || row.len() != rows[0].len() {
                complaints.push(format!("{section}: cells are missing in {row:?}"));
            }
            let excused = ours.starts_with("not yet: ") || ours.starts_with("none: ");
            // Where there is nothing of ours, only what looks like an item is one.
            let named: Vec<&str> = codes(ours)
                .filter(|code| !excused || code.contains("::"))
                .collect();
            if ours == DASH || (!excused && named.is_empty()) {
                complaints.push(format!("{section}: nothing is ours in {row:?}"));
            }
            for lost in named.iter().filter(|code| !items.0.contains(**code)) {
                complaints.push(format!("{section}: there is no public `{lost}`"));
            }
        }
    }
    complaints
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_request_has_its_row() {
    assert_none(&requests(&parse(DOCUMENT)));
}

#[test]
fn every_option_has_its_row_which_says_what_the_table_says() {
    assert_none(&options(&parse(DOCUMENT)));
}

#[test]
fn every_value_of_an_option_has_its_row() {
    assert_none(&values(&parse(DOCUMENT)));
}

#[test]
fn every_field_of_a_message_has_its_row() {
    assert_none(&messages(&parse(DOCUMENT)));
}

#[test]
fn every_hook_has_its_row() {
    assert_none(&hooks(&parse(DOCUMENT)));
}

#[test]
fn every_row_names_what_there_is() {
    assert_eq!(
        cells(&parse(DOCUMENT), &Items::read()),
        Vec::<String>::new()
    );
}

#[test]
fn the_protocol_is_read_whole() {
    let count = |name: &str| members().iter().filter(|[of, ..]| of == name).count();
    assert_eq!(count("criu_req_type"), 14);
    assert_eq!(count("criu_opts"), 70);
    let is_member = |line: &&str| line.starts_with("  ") && line.contains(" = ");
    assert_eq!(members().len(), PROTO.lines().filter(is_member).count());
}

#[test]
fn a_row_that_is_taken_away_is_missed() {
    let whole = parse(DOCUMENT);
    let checks = [
        ("Requests", requests as fn(&Document) -> Vec<String>),
        ("Options", options),
        ("Values", values),
        ("Messages", messages),
        ("Hooks", hooks),
    ];
    for (section, check) in checks {
        for index in 0..whole[section].len() {
            let mut document = whole.clone();
            let row = document.get_mut(section).unwrap().remove(index);
            assert_ne!(check(&document), Vec::<String>::new(), "{row:?}");
        }
    }
}

#[test]
fn a_name_of_nothing_and_an_empty_cell_are_missed() {
    let items = Items::read();
    let wrong = [
        ("`Options::tcp_close`", "`Options::tcp_shut`"),
        ("`Criu::check`", "`Criu::put_defaults`"),
        ("`close_common_files`", "`close_all_files`"),
        ("`Criu::restore`", ""),
        ("`Criu::restore`", DASH),
        ("`Criu::restore`", "as one would think"),
    ];
    for (right, wrong) in wrong {
        let text = DOCUMENT.replace(&format!("| {right} |"), &format!("| {wrong} |"));
        assert_ne!(text, DOCUMENT, "{right}");
        assert_ne!(
            cells(&parse(&text), &items),
            Vec::<String>::new(),
            "{wrong}"
        );
    }
}
