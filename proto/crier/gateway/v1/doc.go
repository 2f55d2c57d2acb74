// Package gatewayv1 has the frames of the device protocol, subprotocol crier.v1.proto (docs/gateway.md). All but this file is generated.
package gatewayv1
