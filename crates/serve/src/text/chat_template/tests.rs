//! Templates as model folders hold them.

use serde_json::json;

use super::*;

fn messages(of: Json) -> Vec<Map<String, Json>> {
    serde_json::from_value(of).unwrap()
}

fn render(source: &str, of: Json) -> Result<String, String> {
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    ChatTemplate::new(source)?.render(&messages(of), &special, true, &Map::new())
}

#[test]
fn methods_of_python_and_blocks_are_those_of_transformers() {
    let source = "{{ bos_token }}{% for message in messages %}\n    {% if message['role'] == 'user' %}\n[{{ message.content.strip().upper() }}]\n    {% endif %}\n{% endfor %}\n{% if add_generation_prompt %}>{% endif %}";
    assert_eq!(render(source, json!([{"role": "user", "content": " hi "}])).unwrap(), "<s>[HI]\n>");
}

#[test]
fn what_a_template_raises_is_what_is_told() {
    let source = "{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}";
    assert_eq!(render(source, json!([{"role": "system", "content": ""}])).unwrap_err(), "the user begins");
}

#[test]
fn marks_of_generations_write_nothing() {
    let source = "a {%- generation -%} b {% endgeneration %}c";
    assert_eq!(render(source, json!([])).unwrap(), "ab c");
}

#[test]
fn json_is_as_python_writes_it_and_is_not_escaped() {
    let source = "{{ messages[0] | tojson }}";
    let text = render(source, json!([{"role": "user", "content": "<b> & 'é'"}])).unwrap();
    assert_eq!(text, r#"{"role": "user", "content": "<b> & 'é'"}"#);
}

#[test]
fn a_list_of_templates_has_a_default() {
    let list = json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
    assert_eq!(source_of(&list), Some("d"));
    assert_eq!(source_of(&Json::Null), None);
}
