//! The HTTP surface as one table: which routes there are, their methods, and the listeners that answer them.
//!
//! Whoever answers goes by this table, `penguinmails schema routes` prints it, and a test asks each route with foreign
//! ids. Not responsible for answering (`api`, `tracking`). To add a route: a variant here with its lines, an arm in
//! `api::handler` or `tracking::answer`, a case in `tests/e2e/foreign_ids.rs`.

use serde_json::{Value, json};

/// Where a route is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The public tracker.
    Track,
    /// Operators and other programs.
    Api,
    /// What watches the process, for those without the API.
    Health,
}

/// A route of the HTTP surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Open,
    Click,
    Unsubscribe,
    Cron,
    Health,
    Ready,
    Metrics,
    Campaigns,
    Campaign,
    Forecast,
    Calendar,
    Explain,
}

impl Listener {
    /// The variable that holds its address.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Track => "TRACK_LISTEN",
            Self::Api => "API_LISTEN",
            Self::Health => "HEALTH_LISTEN",
        }
    }

    /// The routes that it answers.
    pub(crate) fn routes(self) -> impl Iterator<Item = Route> {
        Route::ALL.into_iter().filter(move |route| route.listeners().contains(&self))
    }

    /// The route with this path.
    pub(crate) fn route(self, path: &str) -> Option<Route> {
        self.routes().find(|route| route.path() == path)
    }
}

impl Route {
    /// Every route.
    pub(crate) const ALL: [Self; 12] = [
        Self::Open,
        Self::Click,
        Self::Unsubscribe,
        Self::Cron,
        Self::Health,
        Self::Ready,
        Self::Metrics,
        Self::Campaigns,
        Self::Campaign,
        Self::Forecast,
        Self::Calendar,
        Self::Explain,
    ];

    /// Its path, the whole of it; `{id}` stands for a campaign's id or name.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Open => "/api/track/open",
            Self::Click => "/api/track/click",
            Self::Unsubscribe => "/unsubscribe",
            Self::Cron => "/api/cron/scheduler",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
            Self::Campaigns => "/api/v1/campaigns",
            Self::Campaign => "/api/v1/campaigns/{id}",
            Self::Forecast => "/api/v1/campaigns/{id}/forecast",
            Self::Calendar => "/api/v1/campaigns/{id}/calendar",
            Self::Explain => "/api/v1/campaigns/{id}/explain",
        }
    }

    /// The methods that it takes, as `Allow` tells them.
    pub(crate) const fn methods(self) -> &'static str {
        match self {
            Self::Unsubscribe => "GET, HEAD, POST",
            Self::Cron => "GET, POST",
            Self::Open | Self::Click | Self::Health | Self::Ready | Self::Metrics => "GET, HEAD",
            Self::Campaigns | Self::Campaign | Self::Forecast | Self::Calendar | Self::Explain => "GET, HEAD",
        }
    }

    /// Who answers it.
    pub(crate) const fn listeners(self) -> &'static [Listener] {
        match self {
            Self::Open | Self::Click | Self::Unsubscribe => &[Listener::Track],
            Self::Cron | Self::Campaigns | Self::Campaign | Self::Forecast | Self::Calendar | Self::Explain => {
                &[Listener::Api]
            }
            Self::Health | Self::Ready | Self::Metrics => &[Listener::Api, Listener::Health],
        }
    }
}

/// The table for other programs.
pub(crate) fn describe() -> Value {
    let row = |route: Route| {
        let methods: Vec<&str> = route.methods().split(", ").collect();
        let listeners: Vec<&str> = route.listeners().iter().map(|listener| listener.variable()).collect();
        json!({ "path": route.path(), "methods": methods, "listeners": listeners })
    };
    json!({ "routes": Route::ALL.map(row) })
}
