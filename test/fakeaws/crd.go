package fakeaws

import (
	awsapis "github.com/aws/karpenter-provider-aws/pkg/apis"
	"github.com/awslabs/operatorpkg/object"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// NodeClassCRD is the definition of EC2NodeClasses, the one kind that Karpenter for AWS has beside Karpenter's own.
func NodeClassCRD() *apiextensionsv1.CustomResourceDefinition {
	return object.Unmarshal[apiextensionsv1.CustomResourceDefinition](awsapis.EC2NodeClassCRD)
}
