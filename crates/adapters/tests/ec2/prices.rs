//! The price of every instance is known.

use planner::Money;
use serde_json::json;

use crate::account::{Account, LIMIT, name, x86};

#[test]
fn prices_come_from_the_price_list_and_from_the_spot_history() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(
        &json!({ "prices": { "c7i.large": "0.1000000000", "m7i.large": "0.2000000000" } }),
    );
    let settings = json!({
        "purchase": ["spot", "on-demand"],
        "pricingEndpoint": account.emulator.url,
        "instanceTypes": ["c7i.large"],
    });
    let provider = account.provider_with("farm", &settings);
    assert_eq!(provider.prices(), [].into());
    assert_eq!(provider.list(LIMIT).unwrap(), []);
    // The most that a new one may cost: on-demand.
    assert_eq!(provider.prices(), [(x86(), Money(100_000))].into());
    let made = provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(made.dollars_per_hour, Some(Money(40_000)), "spot, in zone a");
    account.emulator_is(&json!({}));
    let listed = provider.list(LIMIT).unwrap();
    assert_eq!(listed[0].dollars_per_hour, Some(Money(40_000)));
    assert_eq!(listed[0].made_from.as_ref().map(String::len), Some(16), "the settings' digest");
    assert_eq!(account.calls("GetProducts") + account.calls("DescribeSpotPriceHistory"), 0);
    // An instance of a type that is not configured any more is priced, too.
    let other = json!({ "pricingEndpoint": account.emulator.url, "instanceTypes": ["m7i.large"] });
    let provider = account.provider_with("farm", &other);
    provider.list(LIMIT).unwrap();
    assert_eq!(provider.prices(), [(x86(), Money(200_000))].into());
    assert_eq!(provider.list(LIMIT).unwrap()[0].dollars_per_hour, Some(Money(40_000)));
}

/// Prices are not needed for anything else.
#[test]
fn without_prices_everything_else_works() {
    let Some(account) = Account::new() else { return };
    let denied = json!({
        "service": "pricing", "times": 1000,
        "error": { "code": "AccessDeniedException", "status": 400, "message": "refused" },
    });
    account.faults(&json!([denied]));
    let provider =
        account.provider_with("farm", &json!({ "pricingEndpoint": account.emulator.url }));
    provider.create(&name(0), &x86(), "t", LIMIT).unwrap();
    assert_eq!(provider.list(LIMIT).unwrap()[0].dollars_per_hour, None);
    assert_eq!(provider.prices(), [].into());
    // A type that the list does not have.
    account.faults(&json!([]));
    let provider =
        account.provider_with("farm", &json!({ "pricingEndpoint": account.emulator.url }));
    assert_eq!(provider.list(LIMIT).unwrap()[0].dollars_per_hour, None);
    // A configured price needs no call.
    account.emulator_is(&json!({}));
    let mut config = account.config(&json!({ "pricingEndpoint": account.emulator.url }));
    config["systemTypes"]["x86_64-linux"]["dollarsPerHour"] = json!(0.5);
    account.provider_of(&config).list(LIMIT).unwrap();
    assert_eq!(account.calls("GetProducts"), 0);
}

/// Those types are looked up before the first creation; instances may run already.
#[test]
fn an_instance_is_priced_before_the_types_that_meet_requirements_are_looked_up() {
    let Some(account) = Account::new() else { return };
    account.provider().create(&name(0), &x86(), "t", LIMIT).unwrap();
    account.emulator_is(&json!({ "prices": { "c7i.large": "0.1000000000" } }));
    let settings = json!({
        "pricingEndpoint": account.emulator.url,
        "instanceTypes": null,
        "instanceRequirements": { "cpus": 16, "architecture": "x86_64" },
    });
    let provider = account.provider_with("farm", &settings);
    assert_eq!(provider.list(LIMIT).unwrap()[0].dollars_per_hour, Some(Money(100_000)));
    assert_eq!(account.calls("DescribeInstanceTypes"), 0);
}

#[test]
fn refused_spot_prices_are_not_asked_for_at_every_listing() {
    let Some(account) = Account::new() else { return };
    let refused = json!({ "error": {
        "code": "UnauthorizedOperation", "status": 403, "message": "as the test wants it",
    } });
    account.fault("DescribeSpotPriceHistory", 1, &refused);
    let provider = account.provider_with("farm", &json!({ "purchase": ["spot"] }));
    provider.list(LIMIT).unwrap();
    provider.list(LIMIT).unwrap();
    assert_eq!(account.calls("DescribeSpotPriceHistory"), 0, "after the refused one");
}

/// The types are in order of their names.
#[test]
fn the_price_list_of_a_later_type_is_used() {
    let Some(account) = Account::new() else { return };
    account.emulator_is(&json!({ "prices": { "*": "0.1000000000" } }));
    let mut config = account.config(&json!({}));
    let with_list = account.config(&json!({ "pricingEndpoint": account.emulator.url }));
    config["systemTypes"]["y"] = with_list["systemTypes"]["x86_64-linux"].clone();
    let provider = account.provider_of(&config);
    provider.list(LIMIT).unwrap();
    assert_eq!(provider.prices().get(&x86()), Some(&Money(100_000)));
}
