//! What the routes under `/api/v1` answer where they do not answer the question.
//!
//! Bodies are constant, save for the field that is named: whether a campaign is another tenant's or nobody's does not show,
//! nor what is wrong with a key. To add a refusal: a variant, its status and its text.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{answer, later, problem, with};
use crate::exit::Failure;

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No key, or one that opens nothing.
    Unauthorized,
    /// The tenant has no such campaign.
    NoCampaign,
    /// The tenant has no such lead.
    NoLead,
    /// A field of the query is wrong.
    Field {
        /// Its name.
        field: String,
        /// What is wrong with it, and how to mend it.
        why: String,
    },
    /// Forecasts are being made.
    Busy,
    /// The one that was asked for takes too long.
    TooLong,
    /// A service is away, or a fault of ours.
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<engines::Error> for Refusal {
    fn from(error: engines::Error) -> Self {
        match error {
            // It was there a moment ago.
            engines::Error::NotFound { what: "campaign", .. } => Self::NoCampaign,
            error => Self::Failed(error.into()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let refused = problem(
                    StatusCode::UNAUTHORIZED,
                    "Authorization: Bearer KEY is missing or wrong (hint: penguinmails api-key create)",
                );
                with(refused, header::WWW_AUTHENTICATE, "Bearer")
            }
            Self::NoCampaign => problem(StatusCode::NOT_FOUND, "no such campaign"),
            Self::NoLead => problem(StatusCode::NOT_FOUND, "no such lead"),
            Self::Field { field, why } => {
                answer(StatusCode::BAD_REQUEST, &json!({ "error": format!("`{field}` {why}"), "field": field }))
            }
            Self::Busy => {
                let why = "other forecasts are being made (hint: one at a time, and ask again in a few seconds)";
                with(problem(StatusCode::TOO_MANY_REQUESTS, why), header::RETRY_AFTER, "5")
            }
            Self::TooLong => problem(
                StatusCode::GATEWAY_TIMEOUT,
                "the forecast takes longer than 5 minutes (hint: penguinmails campaign forecast has no limit)",
            ),
            Self::Failed(Failure::Unreachable(why)) => {
                tracing::warn!(why, "a question to the API cannot be answered now");
                later("a service does not answer now (hint: /ready says which)")
            }
            Self::Failed(failure) => {
                tracing::error!(error = %failure, "a question to the API ended by a fault of ours");
                problem(StatusCode::INTERNAL_SERVER_ERROR, "a fault of ours (hint: see the log)")
            }
        }
    }
}
