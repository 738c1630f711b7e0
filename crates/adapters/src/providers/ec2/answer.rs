//! Reads EC2's answers: XML, and JSON of the services beside it.

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::de::DeserializeOwned;

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    quick_xml::de::from_str(text).map_err(|error| format!("the answer is invalid: {error}"))
}

/// Parses the answer to `action`: everything in it may be absent, so a page of a proxy would look like an empty list.
pub(super) fn parse_answer<T: DeserializeOwned>(action: &str, body: &[u8]) -> Result<T, String> {
    let root = root(body);
    if root.strip_suffix("Response") == Some(action) {
        return parse(body);
    }
    let start = start_of(body);
    Err(format!("the answer is invalid: it is not {action}Response, but {start:?}"))
}

/// The name of the document's outermost element; empty if it is no XML.
fn root(body: &[u8]) -> String {
    let mut reader = Reader::from_reader(body);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                return element.local_name().as_ref().to_owned();
            }
            Ok(Event::Eof) | Err(_) => return String::new(),
            Ok(_) => {}
        }
    }
}

/// The first words of an answer that may come from a proxy.
pub(super) fn start_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(160)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer is invalid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::ec2::wire::DescribeInstances;

    #[test]
    fn an_answer_that_is_none_is_not_taken_for_an_empty_list() {
        let of =
            |body: &str| parse_answer::<DescribeInstances>("DescribeInstances", body.as_bytes());
        let none = "<?xml version=\"1.0\"?>\n<!-- x --><DescribeInstancesResponse xmlns=\"x\"/>";
        assert_eq!(of(none).unwrap().into_instances().count(), 0);
        for body in [
            "",
            "{}",
            "sign in",
            "<!DOCTYPE html><html><body>sign in</body></html>",
            "<RunInstancesResponse/>",
            "<Response><Errors><Error><Code>X</Code></Error></Errors></Response>",
        ] {
            assert!(
                of(body).unwrap_err().contains("it is not DescribeInstancesResponse"),
                "{body}"
            );
        }
    }
}
