//! The clock of the node.

use crate::management::app::App;
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::UserRole;
use crate::operations::ClockReport;
use axum::Json;
use axum::extract::State;

pub fn add(routes: Routes) -> Routes {
    let get = Operation {
        path: "/v1/clock",
        id: "getClock",
        summary: "Compares the node's clock with its log and with its peers.",
        roles: &[UserRole::Admin],
    };
    let post = Operation {
        path: "/v1/clock/correction",
        id: "correctClock",
        summary: "Follows the machine's clock again after it was ahead; most peers must confirm its time.",
        roles: &[UserRole::Admin],
    };
    routes.get(get, clock).post(post, correct)
}

async fn clock(State(app): State<App>) -> Json<ClockReport> {
    Json(app.services.operations.clocks.report().await)
}

async fn correct(State(app): State<App>, Caller(user): Caller) -> Result<Json<ClockReport>, Problem> {
    Ok(Json(app.services.operations.clocks.correct(&user).await?))
}
