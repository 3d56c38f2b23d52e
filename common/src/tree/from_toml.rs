//! TOML as a tree.

use super::{Node, Origin, SyntaxError, Value};
use toml::de::{DeTable, DeValue};

pub fn toml(text: &str) -> Result<Node, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| SyntaxError {
        line: error.span().map_or(1, |span| line(text, span.start)),
        message: error.message().to_owned(),
    })?;
    let at = line(text, table.span().start);
    Ok(Node::new(entries(text, table.get_ref()), Origin::Line(at)))
}

fn entries(text: &str, table: &DeTable<'_>) -> Value {
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
        let key: &toml::Spanned<std::borrow::Cow<'_, str>> = key;
        let node = Node::new(self::value(text, value.get_ref()), Origin::Line(line(text, key.span().start)));
        (key.get_ref().to_string(), node)
    };
    Value::Table(table.iter().map(entry).collect())
}

fn value(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i128::from_str_radix(&digits, number.radix()).map_or(Value::Text(digits), Value::Integer)
        }
        DeValue::Float(number) => {
            let digits = number.as_str().replace('_', "");
            digits.parse().map_or(Value::Text(digits), Value::Float)
        }
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| {
                Node::new(self::value(text, item.get_ref()), Origin::Line(line(text, item.span().start)))
            };
            Value::List(items.iter().map(item).collect())
        }
        DeValue::Table(table) => entries(text, table),
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_lines_are_kept() {
        let node = toml("a = 1\n[b]\nc = \"x\"\nd = [true, 1.5, 0x1F]\n").expect("good toml");
        assert_eq!(node.locate("b.c"), &Node::new(Value::Text("x".into()), Origin::Line(3)));
        assert_eq!(node.locate("b.d[2]").value, Value::Integer(31));
        assert_eq!(node.locate("b.d[1]").value, Value::Float(1.5));
    }

    #[test]
    fn a_bad_file_names_the_line() {
        assert_eq!(toml("a = 1\nb = \n").expect_err("no value").line, 2);
    }
}
