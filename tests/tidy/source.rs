//! Rust source as text: comments and literals blanked, tests left out, paths found.
//!
//! Not a parser: it knows as much of the language as the checks need, and blanks with spaces so that every
//! offset stays where it is in the file.

use std::{fs, ops::Range, path::Path};

/// One file of the crate.
pub(crate) struct Source {
    /// The path from the repository's root, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The file without comments, contents of literals, and items that only tests have.
    pub(crate) product: String,
}

/// A path in the code, such as `crate::errors::Phase`, flat also where it was written as a `use` tree.
pub(crate) struct CodePath {
    pub(crate) offset: usize,
    pub(crate) segments: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let product = without_items(&blank(text), is_test_attribute);
        Self { path: path.to_owned(), text: text.to_owned(), product }
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    /// A finding at an offset, as a compiler would print it.
    pub(crate) fn finding(&self, offset: usize, reason: &str) -> String {
        format!("{}:{}: {reason}", self.path, self.line(offset))
    }

    /// The modules that the file is in, from the crate's root: `["wire", "req_id"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<&str> = inside.split('/').collect();
        if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
            module.pop();
        }
        module
    }

    /// Files of modules that only tests have: `#[cfg(test)] mod tests;`.
    fn test_files(&self) -> Vec<String> {
        let code = blank(&self.text);
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => self.path.trim_end_matches(".rs"),
        };
        items(&code, is_test_attribute)
            .into_iter()
            .filter_map(|item| {
                let name = code[item].rsplit_once("mod ")?.1.strip_suffix(';')?.trim();
                Some([format!("{folder}/{name}.rs"), format!("{folder}/{name}/")])
            })
            .flatten()
            .collect()
    }

    /// Inline modules of the file: where they are, and their names.
    pub(crate) fn inline_modules(&self) -> Vec<(Range<usize>, String)> {
        let mut modules = Vec::new();
        for (offset, word) in words(&self.product) {
            let rest = self.product[offset + word.len()..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if word == "mod" && rest[name.len()..].trim_start().starts_with('{') {
                modules.push((offset..item_end(&self.product, offset), name));
            }
        }
        modules
    }
}

/// Every Rust file under `root/src`, with the files that only tests have left without a product.
pub(crate) fn crate_sources(root: &Path) -> Vec<Source> {
    let mut sources = sources_under(root, "src");
    let of_tests: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        if of_tests
            .iter()
            .any(|path| source.path == *path || path.ends_with('/') && source.path.starts_with(path))
        {
            source.product.clear();
        }
    }
    sources
}

/// The Rust files under `root/folder`.
pub(crate) fn sources_under(root: &Path, folder: &str) -> Vec<Source> {
    files_under(root, folder)
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Source::new(&path, &fs::read_to_string(root.join(&path)).unwrap()))
        .collect()
}

/// The files under `root/folder`, sorted, as paths from the root with `/`.
pub(crate) fn files_under(root: &Path, folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return files };
    for entry in entries {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_under(root, &path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The code with every comment and the contents of every literal blanked; quotes stay.
pub(crate) fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut blanked = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (hidden, end) = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            (at..end, end)
        } else if rest.starts_with(b"/*") {
            let end = at + comment_length(rest);
            (at..end, end)
        } else if let Some((open, close)) = literal(text, at) {
            (open..close, close + 1)
        } else {
            at += 1;
            continue;
        };
        for byte in &mut blanked[hidden] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(blanked).unwrap()
}

fn comment_length(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// Where a literal that begins at `at` has its contents: after its opening quote, before its closing one.
fn literal(text: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &text.as_bytes()[at..];
    let close = |from: usize, quote: u8| {
        let mut end = from;
        while end < text.len() && text.as_bytes()[end] != quote {
            end += if text.as_bytes()[end] == b'\\' { 2 } else { 1 };
        }
        end.min(text.len())
    };
    match rest[0] {
        b'"' => Some((at + 1, close(at + 1, b'"'))),
        b'\'' => {
            let mut characters = text[at + 1..].chars();
            let first = characters.next()?;
            // Anything else is a lifetime.
            (first == '\\' || characters.next() == Some('\'')).then(|| (at + 1, close(at + 1, b'\'')))
        }
        b'r' if at == 0 || !is_word(char::from(text.as_bytes()[at - 1])) || is_raw_prefix(text, at) => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            let open = at + 1 + hashes;
            (text.as_bytes().get(open) == Some(&b'"')).then_some(())?;
            let end = format!("\"{}", "#".repeat(hashes));
            Some((open + 1, open + 1 + text[open + 1..].find(&end).unwrap_or(text.len() - open - 1)))
        }
        _ => None,
    }
}

/// Whether the `r` at `at` belongs to `br"` or `cr"`.
fn is_raw_prefix(text: &str, at: usize) -> bool {
    let before = &text.as_bytes()[..at];
    matches!(before.last(), Some(b'b' | b'c'))
        && before.len().checked_sub(2).is_none_or(|index| !is_word(char::from(before[index])))
}

pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every word (identifier, keyword, number) of the code with its offset.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (offset, character) in code.char_indices().chain([(code.len(), ' ')]) {
        match (start, is_word(character)) {
            (None, true) => start = Some(offset),
            (Some(from), false) => {
                words.push((from, &code[from..offset]));
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    words
}

fn is_test_attribute(attribute: &str) -> bool {
    attribute.starts_with("cfg(")
        && !attribute.contains("not(test")
        && words(attribute).iter().any(|(_, word)| *word == "test")
}

/// The items and statements that carry an attribute for which `wanted` holds, attributes included.
pub(crate) fn items(code: &str, wanted: fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices("#[") {
        let end = bracket_end(code, start + 1);
        let attribute = code[start + 2..end - 1].split_whitespace().collect::<String>();
        if wanted(&attribute) && found.last().is_none_or(|last| last.end <= start) {
            found.push(start..item_end(code, end));
        }
    }
    found
}

/// The code with those items blanked.
pub(crate) fn without_items(code: &str, wanted: fn(&str) -> bool) -> String {
    let mut kept = code.to_owned();
    for item in items(code, wanted) {
        let blanked: String = code[item.clone()].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        // A character of several bytes outside of literals and comments would move what follows.
        assert_eq!(blanked.len(), item.len(), "an identifier that is not ASCII");
        kept.replace_range(item, &blanked);
    }
    kept
}

/// The end of the bracket that opens at `open`.
pub(crate) fn bracket_end(code: &str, open: usize) -> usize {
    let mut depth = 0_i32;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset + 1;
        }
    }
    code.len()
}

/// The end of the item or statement that begins at `from`, after its other attributes.
fn item_end(code: &str, mut from: usize) -> usize {
    while let Some(skipped) = code[from..].find(|c: char| !c.is_whitespace()) {
        if !code[from + skipped..].starts_with("#[") {
            break;
        }
        from = bracket_end(code, from + skipped + 1);
    }
    let mut depth = 0_i32;
    for (offset, character) in code[from..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        match (depth, character) {
            (0, ';' | '}') => return from + offset + 1,
            (..=-1, _) => return from + offset,
            _ => {}
        }
    }
    code.len()
}

/// Every path of the code, `use` trees taken apart.
pub(crate) fn paths(code: &str) -> Vec<CodePath> {
    let mut paths = Vec::new();
    let mut covered_to = 0;
    for (offset, word) in words(code) {
        if offset < covered_to {
            continue;
        }
        let after = offset + word.len();
        if word == "use" {
            covered_to = after + code[after..].find(';').unwrap_or(0);
            for segments in use_tree(&code[after..covered_to]) {
                paths.push(CodePath { offset, segments });
            }
        } else {
            let rest = &code[offset..];
            let end = rest.find(|c: char| !is_word(c) && c != ':').unwrap_or(rest.len());
            let segments = segments(&rest[..end]);
            covered_to = after.max(offset + segments.join("::").len());
            paths.push(CodePath { offset, segments });
        }
    }
    paths
}

/// The segments of `a::b::c`; a single colon ends the path.
fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    for segment in path.trim_start_matches("::").split("::") {
        let (name, single_colon) = segment.split_once(':').map_or((segment, false), |(name, _)| (name, true));
        if !name.is_empty() {
            segments.push(name.to_owned());
        }
        if single_colon {
            break;
        }
    }
    segments
}

fn use_tree(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split_once(" as ").map_or(tree, |(path, _)| path);
        return if path.is_empty() { vec![] } else { vec![segments(path.trim())] };
    };
    let prefix = segments(&tree[..open]);
    let inner = &tree[open + 1..bracket_end(tree, open) - 1];
    split_arguments(inner)
        .into_iter()
        .flat_map(|range| use_tree(&inner[range]))
        .map(|rest| prefix.iter().cloned().chain(rest).collect())
        .collect()
}

/// The ranges between the commas that are in no bracket.
pub(crate) fn split_arguments(code: &str) -> Vec<Range<usize>> {
    let (mut depth, mut start, mut ranges) = (0_i32, 0, Vec::new());
    for (offset, character) in code.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                ranges.push(start..offset);
                start = offset + 1;
            }
            _ => {}
        }
    }
    ranges.push(start..code.len());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        let text = "a(\"x\\\"{\", '{', b'\\'', r#\"}\"#, br\"}\"); // {\n/* { /* } */ { */ b::<'s>()";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert!(!code.contains('{') && !code.contains('}'), "{code}");
        assert!(code.starts_with("a(\"") && code.ends_with("b::<'s>()"), "{code}");
    }

    #[test]
    fn items_of_tests_are_left_out_of_the_product() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod tests { fn b() { c() } }\nfn d() {}\n#[cfg(test)]\nuse e;\n#[cfg(not(test))] fn f() {}";
        let names: Vec<String> = words(&Source::new("src/x.rs", text).product)
            .iter()
            .map(|(_, word)| (*word).to_owned())
            .collect();
        assert_eq!(names, ["fn", "a", "fn", "d", "cfg", "not", "test", "fn", "f"]);
    }

    #[test]
    fn files_that_only_tests_have_are_known() {
        let test_files = |path: &str| Source::new(path, "#[cfg(test)]\nmod tests;\nmod other;").test_files();
        assert_eq!(test_files("src/a/mod.rs"), ["src/a/tests.rs", "src/a/tests/"]);
        assert_eq!(test_files("src/a/b.rs"), ["src/a/b/tests.rs", "src/a/b/tests/"]);
    }

    #[test]
    fn paths_are_flat() {
        let code = "pub use crate::{a::{self, b as c}, d::*};\nlet x: ::e::F = g::h(super::super::i::J);";
        let flat: Vec<String> = paths(code).iter().map(|path| path.segments.join("::")).collect();
        for expected in
            ["crate::a::self", "crate::a::b", "crate::d::*", "e::F", "g::h", "super::super::i::J", "x"]
        {
            assert!(flat.iter().any(|path| path == expected), "{expected} in {flat:?}");
        }
    }
}
