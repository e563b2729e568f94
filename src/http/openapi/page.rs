//! The reference page: the document as HTML, made once, without a script.

use std::fmt::Write as _;

use serde_json::Value;

/// The page's style, a file of its own so that the page needs no inline one.
pub(super) const STYLE: &str = include_str!("page.css");

/// The text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// A text with its `code` in backquotes.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (index, part) in escaped(text).split('`').enumerate() {
        if index % 2 == 1 {
            html.push_str(&format!("<code>{part}</code>"));
        } else {
            html.push_str(part);
        }
    }
    html
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// Renders the whole document.
pub(super) fn render(document: &Value) -> String {
    let info = &document["info"];
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"docs.css\"></head><body><main>\n<h1>{title} <small>{version}</small></h1>\n\
         <p>{description}</p>\n<p><a href=\"openapi.json\">openapi.json</a></p>\n",
        title = escaped(text(info, "title")),
        version = escaped(text(info, "version")),
        description = prose(text(info, "description")),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        section(&mut page, document, tag);
    }
    page.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let _ = writeln!(
            page,
            "<details id=\"schema-{name}\"><summary><code>{name}</code> {description}</summary>{json}</details>",
            name = escaped(name),
            description = prose(text(schema, "description")),
            json = pretty(schema),
        );
    }
    page.push_str("</main></body></html>\n");
    page
}

fn section(page: &mut String, document: &Value, tag: &Value) {
    let name = text(tag, "name");
    let _ = writeln!(page, "<h2>{}</h2>\n<p>{}</p>", escaped(name), prose(text(tag, "description")));
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            let tags = operation["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
            if tags.iter().any(|tag| tag == name) {
                self::operation(page, method, path, operation);
            }
        }
    }
}

fn operation(page: &mut String, method: &str, path: &str, operation: &Value) {
    let _ = writeln!(
        page,
        "<details><summary><b class=\"{method}\">{upper}</b> <code>{path}</code> {summary}</summary>\n<p>{description}</p>",
        method = escaped(method),
        upper = escaped(&method.to_uppercase()),
        path = escaped(path),
        summary = prose(text(operation, "summary")),
        description = prose(text(operation, "description")),
    );
    if operation["security"] == serde_json::json!([{}]) {
        page.push_str("<p>No key is needed.</p>\n");
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        page.push_str("<h4>Parameters</h4><table>\n");
        for parameter in parameters {
            let _ = writeln!(
                page,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(text(parameter, "name")),
                escaped(text(parameter, "in")),
                escaped(&shape(&parameter["schema"])),
                prose(text(parameter, "description")),
            );
        }
        page.push_str("</table>\n");
    }
    if let Some(content) = operation["requestBody"]["content"].as_object() {
        let _ =
            writeln!(page, "<h4>Body</h4><p>{}</p>", prose(text(&operation["requestBody"], "description")));
        contents(page, content);
    }
    page.push_str("<h4>Answers</h4>\n");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let _ = writeln!(page, "<p><b>{}</b> {}</p>", escaped(status), prose(text(response, "description")));
        if let Some(content) = response["content"].as_object() {
            contents(page, content);
        }
    }
    page.push_str("</details>\n");
}

fn contents(page: &mut String, content: &serde_json::Map<String, Value>) {
    for (media, body) in content {
        let _ = writeln!(page, "<p><code>{}</code> {}</p>", escaped(media), linked(&body["schema"]));
        if !body["example"].is_null() {
            page.push_str(&pretty(&body["example"]));
        }
    }
}

/// A schema's name as a link, or its shape.
fn linked(schema: &Value) -> String {
    let whole = schema["allOf"].get(0).unwrap_or(schema);
    match whole["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => format!("<a href=\"#schema-{name}\">{name}</a>", name = escaped(name)),
        None => escaped(&shape(schema)),
    }
}

/// What a simple schema allows, in a few words.
fn shape(schema: &Value) -> String {
    let mut words = match &schema["type"] {
        Value::String(one) => one.clone(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_owned()
        }
    };
    for bound in ["minimum", "maximum", "minLength", "maxLength"] {
        if !schema[bound].is_null() {
            let _ = write!(words, ", {bound} {}", schema[bound]);
        }
    }
    words
}

fn pretty(value: &Value) -> String {
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("<pre>{}</pre>\n", escaped(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_html_is_shown_and_not_obeyed() {
        assert_eq!(prose("<b>`a`&\"'"), "&lt;b&gt;<code>a</code>&amp;&quot;&#39;");
        let page = render(&serde_json::json!({"info": {"title": "</title><script>"}}));
        assert!(!page.contains("<script"), "{page}");
    }
}
