//! Routes as they are put together: those of the API come with their description, all others are
//! named. There is no third way in, so that none of the API's can stay undescribed.

use super::{App, openapi};
use axum::{Router, routing::MethodRouter};
use std::sync::Arc;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// Paths of the API that are not for programs but for node-init: it speaks in `protocol`'s signed
/// types, by its own certificate or before it has one, and `ARCHITECTURE.md` says in which order.
#[cfg(test)]
const OF_NODES: &[&str] = &[
    "/v1/machines/{mac}/alive",
    "/v1/machines/{mac}/certificate",
    "/v1/machines/{mac}/challenge",
    "/v1/machines/{mac}/claim",
    "/v1/machines/{mac}/enrol",
    "/v1/machines/{mac}/events",
    "/v1/machines/{mac}/lines",
    "/v1/machines/{mac}/pieces",
    "/v1/pieces/{file}",
    "/v1/time",
];

/// Routes.
pub(super) struct Routes {
    api: Vec<UtoipaMethodRouter<Arc<App>>>,
    others: Router<Arc<App>>,
    named: Vec<&'static str>,
}

impl Routes {
    /// None.
    pub(super) fn new() -> Self {
        Self { api: Vec::new(), others: Router::new(), named: Vec::new() }
    }

    /// Some of the API: what `utoipa_axum::routes!` makes of described handlers.
    pub(super) fn api(mut self, routes: UtoipaMethodRouter<Arc<App>>) -> Self {
        self.api.push(routes);
        self
    }

    /// Others: pages, files, what firmware and nodes ask for.
    pub(super) fn other(mut self, path: &'static str, methods: MethodRouter<Arc<App>>) -> Self {
        self.others = self.others.route(path, methods);
        self.named.push(path);
        self
    }

    /// The API, each of its routes as `each` makes it, its description, and the others.
    pub(super) fn parts(
        self,
        each: impl Fn(MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>>,
    ) -> (Router<Arc<App>>, OpenApi, Router<Arc<App>>) {
        let wrap = |api: OpenApiRouter<_>, (schemas, paths, methods)| {
            api.routes((schemas, paths, each(methods)))
        };
        let (api, description) =
            self.api.into_iter().fold(openapi::router(), wrap).split_for_parts();
        (api, description, self.others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What of a list of paths belongs into the description.
    fn undescribed<'a>(named: &[&'a str]) -> Vec<&'a str> {
        let of_programs = |path: &&str| path.starts_with("/v1/") && !OF_NODES.contains(path);
        named.iter().copied().filter(of_programs).collect()
    }

    #[test]
    fn every_route_for_programs_is_described() {
        let routes = crate::http::table();
        // The description itself.
        assert_eq!(undescribed(&routes.named), ["/v1/openapi.json"]);
        assert_eq!(undescribed(&["/v1/new", "/v1/time", "/page"]), ["/v1/new"]);
        let unused = OF_NODES.iter().filter(|path| !routes.named.contains(path));
        assert_eq!(unused.collect::<Vec<_>>(), Vec::<&&str>::new());
    }

    /// Names of schemas that something refers to.
    fn referred(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Object(table) => {
                let name = table.get("$ref").and_then(Value::as_str);
                all.extend(
                    name.and_then(|name| name.strip_prefix("#/components/schemas/"))
                        .map(String::from),
                );
                table.values().for_each(|value| referred(value, all));
            }
            Value::Array(values) => values.iter().for_each(|value| referred(value, all)),
            _ => {}
        }
    }

    #[test]
    fn whatever_the_description_refers_to_is_described() {
        let (_, description, _) = crate::http::table().parts(|methods| methods);
        let description = serde_json::to_value(description).unwrap();
        let mut all = Vec::new();
        referred(&description, &mut all);
        let known = &description["components"]["schemas"];
        let missing: Vec<_> = all.iter().filter(|name| known.get(name).is_none()).collect();
        assert!(!all.is_empty() && missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_changes_something_takes_a_key_and_a_tag_and_refuses_by_problems() {
        let (_, description, _) = crate::http::table().parts(|methods| methods);
        let description = serde_json::to_value(description).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for (path, methods) in description["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let at = format!("{method} {path}");
                let id = operation["operationId"].as_str().unwrap();
                assert!(names.insert(id.to_owned()), "two are called {id}: {at}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{at}");
                let refused = &operation["responses"]["default"]["content"];
                assert!(refused["application/problem+json"].is_object(), "{at}: {refused}");
                let empty = Vec::new();
                let parameters = operation["parameters"].as_array().unwrap_or(&empty);
                let takes =
                    |name: &str| parameters.iter().any(|one| one["name"].as_str() == Some(name));
                // What is made has no tag before it is there; a machine's own report is kept once.
                let reports = path.ends_with("/crashes");
                let makes = reports || matches!(path.as_str(), "/v1/operators" | "/v1/media");
                assert_eq!(takes("Idempotency-Key"), method != "get" && !reports, "{at}");
                assert_eq!(takes("If-Match"), method != "get" && !makes, "{at}");
            }
        }
    }
}
