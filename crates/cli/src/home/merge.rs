//! Changes of one process, applied to what another has written meanwhile.

use std::collections::BTreeSet;

use serde_json::Value;

/// Applies what became of `before` in `after` to `onto`, and leaves the rest of that alone. Members of objects are looked
/// at one by one, lists are sets. Where both sides changed the same, `after` counts.
pub(super) fn apply(before: &Value, after: &Value, onto: &mut Value) {
    if before == after {
        return;
    }
    match (before, after, onto) {
        (Value::Object(before), Value::Object(after), Value::Object(onto)) => {
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                onto.remove(name);
            }
            for (name, new) in after {
                match (before.get(name), onto.get_mut(name)) {
                    (Some(old), _) if old == new => {}
                    (Some(old), Some(there)) => apply(old, new, there),
                    // Both began it, each from nothing.
                    (None, Some(there)) => apply(&empty_like(there), new, there),
                    _ => drop(onto.insert(name.clone(), new.clone())),
                }
            }
        }
        (Value::Array(before), Value::Array(after), Value::Array(onto)) => {
            let texts = |list: &[Value]| list.iter().map(Value::to_string).collect::<BTreeSet<_>>();
            let (old, new) = (texts(before), texts(after));
            onto.retain(|entry| {
                let entry = entry.to_string();
                !old.contains(&entry) || new.contains(&entry)
            });
            let there = texts(onto);
            let added = after.iter().filter(|entry| {
                let entry = entry.to_string();
                !old.contains(&entry) && !there.contains(&entry)
            });
            onto.extend(added.cloned());
        }
        (_, after, onto) => *onto = after.clone(),
    }
}

fn empty_like(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Keeps the newest `limit` entries of a list or object whose entries have an `age`: two processes may have filled it to
/// the brim each.
pub(super) fn keep_newest(all: &mut Value, limit: usize, age: impl Fn(&Value) -> i64) {
    match all {
        Value::Array(list) if list.len() > limit => {
            list.sort_by_key(|entry| std::cmp::Reverse(age(entry)));
            list.truncate(limit);
        }
        Value::Object(map) if map.len() > limit => {
            let mut ages: Vec<(i64, String)> =
                map.iter().map(|(name, entry)| (age(entry), name.clone())).collect();
            ages.sort();
            for (_, name) in &ages[..ages.len() - limit] {
                map.remove(name);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(before: &Value, after: &Value, mut onto: Value, expected: &Value) {
        apply(before, after, &mut onto);
        assert_eq!(&onto, expected);
    }

    #[test]
    fn both_sides_count() {
        let before =
            json!({"contacts": {"a": {"added": 1}, "b": {"added": 2}, "c": {"added": 3}}, "seen": [1, 2]});
        // We asked a and removed c; the other banned a, removed b and added d.
        let after = json!({"contacts": {"a": {"added": 1, "asked": 1}, "b": {"added": 2}}, "seen": [2, 3], "new": true});
        let other = json!({"contacts": {"a": {"added": 1, "banned": true}, "c": {"added": 3}, "d": {}}, "seen": [1, 2, 4]});
        let both = json!({
            "contacts": {"a": {"added": 1, "banned": true, "asked": 1}, "d": {}}, "seen": [2, 4, 3], "new": true
        });
        check(&before, &after, other, &both);
    }

    #[test]
    fn the_same_from_both_sides() {
        let (before, after) = (json!({"x": {}}), json!({"x": {"a": {"n": 1}}, "list": ["q"]}));
        let other = json!({"x": {"a": {"n": 2, "m": 3}}, "list": ["p", "q"]});
        check(&before, &after, other, &json!({"x": {"a": {"n": 1, "m": 3}}, "list": ["p", "q"]}));
        check(&before, &after, before.clone(), &after);
        check(&before, &before, json!(7), &json!(7));
        check(&json!(1), &json!({"a": 1}), json!([]), &json!({"a": 1}));
    }

    #[test]
    fn bounds_hold_after_all() {
        let age = |entry: &Value| entry.as_i64().unwrap_or(0);
        let mut list = json!([5, 1, 4, 2]);
        keep_newest(&mut list, 2, age);
        assert_eq!(list, json!([5, 4]));
        let mut map = json!({"a": 5, "b": 1, "c": 4});
        keep_newest(&mut map, 2, age);
        assert_eq!(map, json!({"a": 5, "c": 4}));
        keep_newest(&mut map, 2, age);
        assert_eq!(map, json!({"a": 5, "c": 4}));
    }
}
