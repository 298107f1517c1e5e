package e2e

// unusedRights are those of the controller that its tests here do not need, and why it has them.
var unusedRights = map[string]string{}
