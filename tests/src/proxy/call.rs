//! A call of the API server, as the proxy sees it.

use std::time::Instant;

use serde_json::Value;

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GET`, `POST`, `PATCH`, ...
    pub method: String,
    /// The path, without what is asked of it.
    pub path: String,
    /// What is asked of the path: `watch=true&resourceVersion=7`.
    pub query: String,
    /// What kind of body it has.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Instant,
}

impl Call {
    /// Whether something is to be written.
    pub fn is_write(&self) -> bool {
        self.method != "GET"
    }

    /// Whether changes are to be told as they come.
    pub fn is_watch(&self) -> bool {
        !self.is_write() && self.query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
    }

    /// Whether it is about the operator itself and made whenever it is time: who leads, and who an agent is.
    pub fn is_of_the_operator(&self) -> bool {
        ["/leases", "/tokenreviews", "/secrets"].iter().any(|part| self.path.contains(part))
    }

    /// The resource, and the subresource where there is one: `pods`, `trainingjobs/status`.
    pub fn resource(&self) -> String {
        let parts: Vec<&str> = self.path.trim_matches('/').split('/').collect();
        // api/VERSION or apis/GROUP/VERSION.
        let rest = parts.get(if parts.first() == Some(&"api") { 2 } else { 3 }..).unwrap_or_default();
        let rest = if rest.first() == Some(&"namespaces") && rest.len() > 2 { &rest[2..] } else { rest };
        match rest {
            [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
            [resource, ..] => (*resource).to_owned(),
            [] => String::new(),
        }
    }

    /// The object: its name in the path, or where it is made that in the body. An event is about its job.
    pub fn object(&self) -> Option<String> {
        if self.method == "POST" {
            let body: Value = serde_json::from_slice(&self.body).ok()?;
            let name = body.pointer("/involvedObject/name").or_else(|| body.pointer("/metadata/name"))?;
            return Some(name.as_str()?.to_owned());
        }
        let resource = self.resource();
        let resource = resource.split('/').next()?;
        let mut parts = self.path.split('/').skip_while(|part| *part != resource).skip(1);
        parts.next().filter(|name| !name.is_empty()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, body: &str, expected: (&str, Option<&str>)) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let call = Call {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: None,
            body: body.as_bytes().to_vec(),
            at: Instant::now(),
        };
        assert_eq!((&*call.resource(), call.object().as_deref()), expected, "{method} {path}");
    }

    #[test]
    fn a_call_is_about_an_object_of_a_resource() {
        check("GET", "/api/v1/pods?watch=true", "", ("pods", None));
        check("GET", "/api/v1/namespaces/default/pods/zh-0-1", "", ("pods", Some("zh-0-1")));
        check(
            "POST",
            "/api/v1/namespaces/default/pods?",
            r#"{"metadata": {"name": "zh-0-1"}}"#,
            ("pods", Some("zh-0-1")),
        );
        let event = r#"{"metadata": {"name": "zh.17"}, "involvedObject": {"name": "zh"}}"#;
        check("POST", "/api/v1/namespaces/default/events", event, ("events", Some("zh")));
        let status = "/apis/palimpsest.dev/v1alpha1/namespaces/default/trainingjobs/zh/status?fieldManager=x";
        check("PATCH", status, "{}", ("trainingjobs/status", Some("zh")));
    }
}
