//! `.drv` files: `Derive(outputs, input derivations, input sources, system, builder, arguments, environment)`
//! in the text form of the `ATerm` library (`Derivation::unparse` in Nix's `derivations.cc`).

use serde_json::{Map, Value, json};

/// Converts a `.drv` file to the relevant part of what `nix derivation show` prints. Paths of input derivations are
/// without their folder.
pub(super) fn derivation(text: &str) -> Result<Value, String> {
    let rest = text.strip_prefix("Derive").ok_or("does not begin with `Derive(`")?;
    let mut reader = Reader { rest };
    let terms = reader.term()?;
    if !reader.rest.trim().is_empty() {
        return Err(format!("continues after its end: {:?}", start(reader.rest)));
    }
    let [_outputs, inputs, _sources, system, _builder, _arguments, env] =
        terms.as_array().map(Vec::as_slice).unwrap_or_default()
    else {
        return Err("does not have the seven parts of a derivation".to_owned());
    };
    let inputs = pairs(inputs).ok_or("its second part is no list of (derivation, outputs)")?;
    let env = pairs(env).ok_or("its last part is no list of (name, value)")?;
    let inputs = inputs.into_iter().map(|(path, outputs)| (base_name(&path), outputs));
    Ok(json!({ "system": system, "inputDrvs": inputs.collect::<Map<_, _>>(), "env": env }))
}

/// A path without its folder.
pub(super) fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn pairs(list: &Value) -> Option<Map<String, Value>> {
    let pairs = list.as_array()?.iter();
    pairs.map(|pair| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.clone()))).collect()
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// A string, or a list or tuple as an array. Derivations nest three deep; the limit bounds the stack for any text.
    fn term(&mut self) -> Result<Value, String> {
        self.nested(4)
    }

    fn nested(&mut self, depth: u8) -> Result<Value, String> {
        let end = match self.rest.chars().next() {
            Some('"') => return self.string().map(Value::String),
            Some('(') => ')',
            Some('[') => ']',
            _ => return Err(self.unexpected("a string, a list or a tuple")),
        };
        let inner = depth.checked_sub(1).ok_or("is nested deeper than a derivation")?;
        self.rest = &self.rest[1..];
        let mut terms = Vec::new();
        while !self.skip(end) {
            if !terms.is_empty() && !self.skip(',') {
                return Err(self.unexpected("a comma or the end of a list"));
            }
            terms.push(self.nested(inner)?);
        }
        Ok(Value::Array(terms))
    }

    fn string(&mut self) -> Result<String, String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.push(match chars.next().map(|(_, escaped)| escaped) {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => break,
                }),
                other => text.push(other),
            }
        }
        Err("ends within a string; is it cut off?".to_owned())
    }

    fn skip(&mut self, char: char) -> bool {
        let rest = self.rest.strip_prefix(char);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.rest {
            "" => "ends too early; is it cut off?".to_owned(),
            rest => format!("has {:?} where {wanted} is wanted", start(rest)),
        }
    }
}

fn start(text: &str) -> String {
    text.chars().take(20).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by Nix 2.8 for `derivation { name = "x"; system = "s"; builder = "/b"; args = [ "a\"b" ]; dep =
    /// <another>; requiredSystemFeatures = [ "kvm" "big" ]; }`, with shortened hashes.
    const DRV: &str = r#"Derive([("out","/nix/store/h-x","","")],[("/nix/store/g-y.drv",["out"])],[],"s","/b",["a\"b"],[("builder","/b"),("dep","/nix/store/g-y"),("name","x"),("out","/nix/store/h-x"),("requiredSystemFeatures","kvm big"),("system","s")])"#;

    #[test]
    fn a_derivation_is_read() {
        let value = derivation(DRV).unwrap();
        assert_eq!(value["system"], "s");
        assert_eq!(value["inputDrvs"], json!({ "g-y.drv": ["out"] }));
        assert_eq!(value["env"]["requiredSystemFeatures"], "kvm big");
    }

    #[test]
    fn what_is_no_derivation_is_refused() {
        for length in 0..DRV.len() {
            assert!(derivation(&DRV[..length]).is_err(), "{length}");
        }
        for (text, message) in [
            ("DrvWithVersion(\"x\")", "does not begin with `Derive(`"),
            ("Derive([],[])", "does not have the seven parts"),
            ("Derive([1])", "has \"1])\" where a string"),
            ("Derive(((((((((((", "is nested deeper"),
            (&format!("{DRV}x"), "continues after its end"),
        ] {
            let error = derivation(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }
}
