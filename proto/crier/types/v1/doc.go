// Package typesv1 has what the other schemas share: accounts, campaigns, sessions, funnels. All but this file is generated.
package typesv1
