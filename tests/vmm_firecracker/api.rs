//! What Firecracker accepts and what it answers, from the fixtures.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

const API: &str = include_str!("../fixtures/firecracker/api.yaml");
const REPLIES: &str = include_str!("../fixtures/firecracker/replies.txt");

/// A field of a request's body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub required: bool,
    #[serde(rename = "enum", default)]
    pub words: Vec<String>,
    pub minimum: Option<u64>,
    pub maximum: Option<u64>,
}

/// The fields of each request's body: `PUT /drives/{drive_id}`.
#[derive(Debug)]
pub struct Api(pub BTreeMap<String, Fields>);

/// The fields of one body.
pub type Fields = BTreeMap<String, Field>;

impl Api {
    pub fn load() -> Self {
        Self(serde_norway::from_str(API).expect("the fixture"))
    }

    /// What is wrong with a request, in all its points.
    pub fn check(&self, method: &str, path: &str, body: &str) -> Result<(), String> {
        let (fields, id) = self.find(method, path).ok_or_else(|| {
            format!(
                "Invalid request method and/or path: {method} {}.",
                path.trim_start_matches('/')
            )
        })?;
        if method == "GET" {
            return if body.is_empty() { Ok(()) } else { Err("a GET with a body".to_owned()) };
        }
        let body: Value = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let body = body.as_object().ok_or("no object")?;
        let mut wrong = Vec::new();
        for (name, field) in fields {
            match body.get(name) {
                Some(value) => wrong.extend(field.wrong(value).map(|why| format!("{name} {why}"))),
                None if field.required => wrong.push(format!("missing field `{name}`")),
                None => {}
            }
        }
        wrong.extend(
            body.keys()
                .filter(|name| !fields.contains_key(*name))
                .map(|name| format!("unknown field `{name}`")),
        );
        if let Some((name, id)) = id
            && body.get(name).is_some_and(|in_body| in_body != id)
        {
            wrong.push("The id from the path does not match the id from the body!".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// The fields of a request, and the id in its path.
    fn find<'a>(
        &'a self,
        method: &str,
        path: &'a str,
    ) -> Option<(&'a Fields, Option<(&'a str, &'a str)>)> {
        if let Some(fields) = self.0.get(&format!("{method} {path}")) {
            return Some((fields, None));
        }
        let (parent, id) = path.rsplit_once('/')?;
        let begin = format!("{method} {parent}/{{");
        let (request, fields) = self.0.iter().find(|(request, _)| request.starts_with(&begin))?;
        let name = request[begin.len()..].trim_end_matches('}');
        Some((fields, Some((name, id))))
    }
}

impl Field {
    fn wrong(&self, value: &Value) -> Option<String> {
        let fits = match self.kind.as_str() {
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64(),
            other => panic!("the fixture has a type {other}"),
        };
        if !fits {
            return Some(format!("is {value} and no {}", self.kind));
        }
        let text = value.as_str().unwrap_or_default();
        if !self.words.is_empty() && !self.words.iter().any(|word| word == text) {
            return Some(format!("is {value} and none of {:?}", self.words));
        }
        let number = value.as_u64().unwrap_or_default();
        let low = self.minimum.is_some_and(|minimum| number < minimum);
        let high = self.maximum.is_some_and(|maximum| number > maximum);
        (low || high).then(|| format!("is {value}, out of its range"))
    }
}

/// An answer that was recorded.
#[derive(Clone, Debug)]
pub struct Reply {
    pub method: String,
    pub path: String,
    pub request: String,
    pub status: u16,
    pub body: String,
}

/// All that were recorded and came through whole.
pub fn replies() -> Vec<Reply> {
    let mut lines = REPLIES.lines().peekable();
    let mut replies = Vec::new();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else { continue };
        let Some(answer) = lines.peek().and_then(|next| next.trim().strip_prefix("-> ")) else {
            continue;
        };
        let (status, body) = answer.split_once(' ').unwrap_or((answer, ""));
        if let Ok(status) = status.parse() {
            replies.push(Reply {
                method: method.to_owned(),
                path: path.to_owned(),
                request: words.collect::<Vec<_>>().join(" "),
                status,
                body: body.to_owned(),
            });
        }
    }
    replies
}

/// The recorded refusal that has these words.
pub fn refusal(words: &str) -> Reply {
    let mut all = replies().into_iter();
    let found = all.find(|reply| reply.status == 400 && reply.body.contains(words));
    found.unwrap_or_else(|| panic!("no such answer was recorded: {words}"))
}
