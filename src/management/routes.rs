//! Operations: route, roles and description from one declaration; parameters, bodies and responses from the handler's
//! types (OpenAPI 3.1).

use super::app::App;
use super::problem::Problem;
use super::roles::{OPEN, Roles, authorize, names};
use crate::core::limits;
use crate::node::UserRole;
use crate::services::Services;
use aide::axum::ApiRouter;
use aide::axum::routing::{ApiMethodRouter, delete_with, get_with, post_with};
use aide::openapi::{Info, License, OpenApi, SecurityScheme};
use aide::operation::OperationHandler;
use aide::transform::TransformOperation;
use aide::{OperationInput, OperationOutput};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;

/// Name of the security scheme in the document.
const TOKEN: &str = "token";

/// What is said of an operation besides its types.
#[derive(Clone, Copy)]
pub struct Operation {
    /// Path, with `{id}` for a parameter.
    pub path: &'static str,
    /// `operationId`.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Who may call it.
    pub roles: Roles,
}

impl Operation {
    fn describe(self, operation: TransformOperation<'_>) -> TransformOperation<'_> {
        let operation = operation.id(self.id).summary(self.summary);
        if self.roles.is_empty() {
            return operation;
        }
        // Some handlers cannot fail, but each of these operations refuses unknown tokens and other roles.
        operation
            .description(&format!("Roles: {}.", names(self.roles).join(", ")))
            .security_requirement(TOKEN)
            .default_response::<Problem>()
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident = $method:ident, $limit:expr;)*) => {
        impl Routes {
            $($(#[$doc])*
            pub fn $name<H, I, O, T>(self, operation: Operation, handler: H) -> Self
            where
                H: Handler<T, App> + OperationHandler<I, O>,
                I: OperationInput,
                O: OperationOutput,
                T: 'static,
            {
                self.add(operation, $method(handler, |described| operation.describe(described)), $limit)
            })*
        }
    };
}

methods! {
    /// Adds an operation that reads.
    get = get_with, DefaultBodyLimit::max(limits::MANAGEMENT_BODY_BYTES_MAX);
    /// Adds an operation that creates or changes something.
    post = post_with, DefaultBodyLimit::max(limits::MANAGEMENT_BODY_BYTES_MAX);
    /// Adds an operation whose body is streamed, so that it has no limit.
    upload = post_with, DefaultBodyLimit::disable();
    /// Adds an operation that deletes.
    delete = delete_with, DefaultBodyLimit::max(limits::MANAGEMENT_BODY_BYTES_MAX);
}

/// The operations declared so far.
pub struct Routes {
    router: ApiRouter<App>,
    services: Services,
}

impl Routes {
    /// No operations; the roles are checked with `services`.
    pub fn new(services: Services) -> Self {
        aide::generate::extract_schemas(true);
        Self { router: ApiRouter::new(), services }
    }

    fn add(mut self, operation: Operation, method: ApiMethodRouter<App>, limit: DefaultBodyLimit) -> Self {
        let method = if operation.roles == OPEN {
            method
        } else {
            method.layer(from_fn_with_state((self.services.clone(), operation.roles), authorize))
        };
        self.router = self.router.api_route(operation.path, method.layer(limit));
        self
    }

    /// The router, and the OpenAPI document.
    pub fn finish(self) -> (Router<App>, OpenApi) {
        let mut document = OpenApi {
            info: Info {
                title: "crosspark".into(),
                summary: Some("The management API of a park's node.".into()),
                description: Some(format!(
                    "For the users of one park's node. A token has one role ({}), a person and, for requesters, an \
                     enterprise. Every error is a problem (RFC 9457): `title` is a code for programs, `detail` a text \
                     for people.",
                    names(&UserRole::ALL).join(", ")
                )),
                version: env!("CARGO_PKG_VERSION").into(),
                license: Some(License {
                    name: "Apache-2.0".into(),
                    identifier: Some("Apache-2.0".into()),
                    ..License::default()
                }),
                ..Info::default()
            },
            ..OpenApi::default()
        };
        let scheme = SecurityScheme::Http {
            scheme: "bearer".into(),
            bearer_format: None,
            description: None,
            extensions: Default::default(),
        };
        let router = self.router.finish_api_with(&mut document, |api| api.security_scheme(TOKEN, scheme));
        (router, document)
    }
}
