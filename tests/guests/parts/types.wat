  (type $error' (variant (case "denied" string) (case "invalid" string) (case "not-found" string)
    (case "exhausted" string) (case "failed" string) (case "timed-out" string)))
  (import "cantrip:guest/types@0.1.0" (instance $types (export "error" (type (eq $error')))))
  (alias export $types "error" (type $error))
