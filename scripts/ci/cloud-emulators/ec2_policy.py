"""Whether a policy allows a call of EC2: moto's own evaluation of statements, for each resource of the call with its tags.

moto itself asks only for the resource `*`, which no statement with resources or conditions allows.
"""

import re

from moto.iam.access_control import IAMPolicyStatement, PermissionResult

ACCOUNT = "123456789012"
REGION = "eu-central-1"
TAG = "hydra-provisioner:tag"


def arn(kind: str, name: str = "new", account: str = ACCOUNT) -> str:
    return f"arn:aws:ec2:{REGION}:{account}:{kind}/{name}"


def requested_tags(form: dict, kind: str) -> dict:
    """The tags that a `RunInstances` gives to what it makes of this kind."""
    tags = {}
    for key, value in form.items():
        match = re.fullmatch(r"(TagSpecification\.\d+)\.ResourceType", key)
        if match and value == kind:
            for index in range(1, 51):
                name = form.get(f"{match.group(1)}.Tag.{index}.Key")
                if name:
                    tags[name] = form[f"{match.group(1)}.Tag.{index}.Value"]
    return tags


def needed_by_run(form: dict) -> list[tuple[str, str, dict]]:
    needed = []
    for kind in ("instance", "volume"):
        tags = requested_tags(form, kind)
        needed.append(("RunInstances", arn(kind), {f"aws:RequestTag/{TAG}": tags.get(TAG, "")}))
        if tags:
            needed.append(("CreateTags", arn(kind), {"ec2:CreateAction": "RunInstances"}))
    used = [arn("image", form["ImageId"], account=""), arn("subnet", "subnet-1"), arn("network-interface"), arn("security-group", "sg-1")]
    if "KeyName" in form:
        used.append(arn("key-pair", form["KeyName"]))
    if form.get("InstanceMarketOptions.MarketType") == "spot":
        used.append(arn("spot-instances-request"))
    return needed + [("RunInstances", one, {}) for one in used]


def needed(action: str, form: dict, tags_of) -> list[tuple[str, str, dict]]:
    """Each (action, resource, context) that must be allowed."""
    if action == "RunInstances":
        return needed_by_run(form)
    if action in ("StartInstances", "StopInstances", "TerminateInstances"):
        instance = form["InstanceId.1"]
        return [(action, arn("instance", instance), {f"aws:ResourceTag/{TAG}": tags_of(instance).get(TAG, "")})]
    return [(action, "*", {})]


def allows(statement: dict, action: str, resource: str, context: dict) -> bool:
    """Of one statement with `Allow`. moto would refuse where only the condition of a statement about other resources is not met."""
    one = IAMPolicyStatement(statement)
    is_about_it = one._check_element_matches("Action", action) and one._check_element_matches("Resource", resource)
    return is_about_it and one.is_action_permitted(action, resource, None, context) == PermissionResult.PERMITTED


def first_refused(policy: dict, service: str, action: str, form: dict, tags_of) -> str | None:
    """What the policy does not allow, in EC2's words."""
    for one, resource, context in needed(action, form, tags_of):
        # A condition on a key that is absent is not met; moto takes it as met.
        context = {"ec2:CreateAction": "", f"aws:RequestTag/{TAG}": "", f"aws:ResourceTag/{TAG}": "", **context}
        if not any(allows(statement, f"{service}:{one}", resource, context) for statement in policy["Statement"]):
            return f"User: arn:aws:iam::{ACCOUNT}:user/farm is not authorized to perform: {service}:{one} on resource: {resource}"
    return None
