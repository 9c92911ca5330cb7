//! Who an agent is: the API server says so of its token, which is bound to its pod.

use std::sync::Arc;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use palimpsest_control::{Authenticate, Caller, Refusal};
use palimpsest_proto::control::Hello;
use tonic::async_trait;

use crate::children::TOKEN_AUDIENCE;
use crate::reconcile::Context;

/// What a bound token's user has been found to be, in the words of the API server.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server about tokens.
pub(super) struct Tokens {
    api: Api<TokenReview>,
    context: Arc<Context>,
}

impl Tokens {
    pub(super) fn new(client: Client, context: Arc<Context>) -> Self {
        Self { api: Api::all(client), context }
    }
}

#[async_trait]
impl Authenticate for Tokens {
    async fn authenticate(&self, token: Option<&str>, hello: &Hello) -> Result<Caller, Refusal> {
        let Some(token) = token else {
            return Err(Refusal::Unauthenticated("no token was shown; give --token-file".to_owned()));
        };
        let spec = TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviewed = self.api.create(&PostParams::default(), &review).await;
        let reviewed = reviewed.map_err(|error| Refusal::Unavailable(format!("cannot review the token: {error}")))?;
        let caller = caller(&reviewed.status.unwrap_or_default(), hello)?;
        match self.context.pods.job_of(&caller.namespace, &caller.pod, &caller.uid) {
            Some(_) => Ok(caller),
            // The watch may not have told of it yet.
            None => Err(Refusal::Unavailable(format!("the pod {} is none of a job that is known here", caller.pod))),
        }
    }
}

/// Who a reviewed token says is calling.
fn caller(status: &TokenReviewStatus, hello: &Hello) -> Result<Caller, Refusal> {
    let refuse = |why: &str| Err(Refusal::Unauthenticated(why.to_owned()));
    if status.authenticated != Some(true) {
        return refuse(status.error.as_deref().unwrap_or("the token is not valid"));
    }
    if !status.audiences.iter().flatten().any(|audience| audience == TOKEN_AUDIENCE) {
        return refuse("the token is for another audience");
    }
    let user = status.user.clone().unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let namespace = username.strip_prefix("system:serviceaccount:").and_then(|rest| Some(rest.split_once(':')?.0));
    let extra = |key: &str| user.extra.as_ref()?.get(key)?.first().cloned();
    let (Some(namespace), Some(pod), Some(uid)) = (namespace, extra(POD_NAME), extra(POD_UID)) else {
        return refuse("the token is bound to no pod");
    };
    if hello.agent != pod {
        return Err(Refusal::Forbidden(format!(
            "the agent says it is {}, but its token is that of {pod}",
            hello.agent
        )));
    }
    Ok(Caller { pod, namespace: namespace.to_owned(), uid })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(status: Value, expected: Expect) {
        let status: TokenReviewStatus = serde_json::from_value(status).unwrap();
        let hello = Hello { agent: "zh-0-1".to_owned(), ..Hello::default() };
        let said = match caller(&status, &hello) {
            Ok(caller) => format!("{}/{} {}", caller.namespace, caller.pod, caller.uid),
            Err(refusal) => format!("{refusal:?}"),
        };
        expected.assert_eq(&said);
    }

    fn mk_status(username: &str, extra: Value) -> Value {
        json!({
            "authenticated": true,
            "audiences": ["palimpsest.dev"],
            "user": {"username": username, "extra": extra},
        })
    }

    #[test]
    fn a_token_is_one_of_a_pod_and_the_pod_is_who_it_says() {
        let worker = "system:serviceaccount:team:default";
        let of = |pod: &str| json!({POD_NAME: [pod], POD_UID: ["u1"]});
        check(mk_status(worker, of("zh-0-1")), expect!["team/zh-0-1 u1"]);
        check(
            mk_status(worker, of("other-0-1")),
            expect![[r#"Forbidden("the agent says it is zh-0-1, but its token is that of other-0-1")"#]],
        );
        check(mk_status(worker, json!({})), expect![[r#"Unauthenticated("the token is bound to no pod")"#]]);
        check(mk_status("alice", of("zh-0-1")), expect![[r#"Unauthenticated("the token is bound to no pod")"#]]);
        check(
            json!({"authenticated": false, "error": "token has expired"}),
            expect![[r#"Unauthenticated("token has expired")"#]],
        );
        check(
            json!({"authenticated": true, "audiences": ["vault"]}),
            expect![[r#"Unauthenticated("the token is for another audience")"#]],
        );
    }
}
