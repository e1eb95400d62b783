//! The service's OpenAPI document, and a page to browse it.

use axum::{Router, http::header, routing::get};
use bytes::Bytes;
use utoipa::{
    PartialSchema,
    openapi::{
        InfoBuilder, LicenseBuilder, OpenApi, SecurityRequirement,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::problem::ProblemSchema;

mod completion;

/// The name of the bearer token's security scheme.
const SCHEME: &str = "bearer";

/// What a document says of who may call.
pub fn security() -> SecurityRequirement {
    SecurityRequirement::new(SCHEME, Vec::<String>::new())
}

/// Splits a router into its routes and its document, and completes the document.
pub fn with_docs<S: Clone + Send + Sync + 'static>(
    routes: OpenApiRouter<S>,
    title: &str,
    description: &str,
) -> (Router<S>, OpenApi) {
    let (routes, mut document) = routes.split_for_parts();
    document.info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ))
        .build();
    document.servers = None;
    name_operations(&mut document);
    document.security = Some(vec![security()]);
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), ProblemSchema::schema());
    components.schemas.insert("Fault".to_owned(), hospital_types::Fault::schema());
    components.security_schemes.insert(
        SCHEME.to_owned(),
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build(),
        )
        .into(),
    );
    completion::complete(&mut document);
    (routes, document)
}

/// Puts the path's noun before each operation's verb, so that an id is unique in its document: `/bills` and `/payments` both have a `list`.
fn name_operations(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let noun = path.split('/').nth(1).unwrap_or_default();
        for operation in
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete]
                .into_iter()
                .flatten()
        {
            let verb = operation.operation_id.take().unwrap_or_default();
            operation.operation_id = Some(camel(noun, &verb));
        }
    }
}

/// `service-types` and `put` as `serviceTypesPut`.
fn camel(noun: &str, verb: &str) -> String {
    let mut words = noun.split('-').chain(verb.split('_'));
    let mut id = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (initial, rest) = word.split_at(word.len().min(1));
        id.push_str(&initial.to_uppercase());
        id.push_str(rest);
    }
    id
}

/// `/openapi.json` and `/docs`.
pub(super) fn routes(document: &OpenApi) -> Router {
    // Rendered once, served as it is.
    let json = Bytes::from(document.to_json().expect("a document is plain data"));
    let serve = get(async move || ([(header::CONTENT_TYPE, "application/json")], json.clone()));
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json"));
    Router::new().route("/openapi.json", serve).merge(page)
}
