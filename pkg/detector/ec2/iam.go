package ec2

import (
	"encoding/json"
	"fmt"
)

// allClusters stands for a cluster whose ARN is not given.
const allClusters = "arn:*:eks:*:*:cluster/*"

// Statement of an IAM policy.
type Statement struct {
	Sid      string   `json:"Sid"`
	Effect   string   `json:"Effect"`
	Action   []string `json:"Action"`
	Resource []string `json:"Resource"`
}

// Policy gives the IAM policy that the calls of this package need, and no more, as indented JSON. Without a cluster's
// ARN it is for zonal shifts of every EKS cluster of the account.
func Policy(clusterARN string) ([]byte, error) {
	if clusterARN == "" {
		clusterARN = allClusters
	}
	policy := struct {
		Version   string      `json:"Version"`
		Statement []Statement `json:"Statement"`
	}{
		Version: "2012-10-17", // the version of the policy language
		Statement: []Statement{
			{Sid: "InstanceStatus", Effect: "Allow", Action: []string{Permission}, Resource: []string{"*"}},
			{Sid: "ZonalShift", Effect: "Allow", Action: []string{PermissionOfShifts}, Resource: []string{clusterARN}},
		},
	}
	text, err := json.MarshalIndent(policy, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the IAM policy, %w", err)
	}
	return append(text, '\n'), nil
}
