# The policies of the roles, statement by statement.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/made-here" }
  }
}

variables {
  name         = "vr"
  cluster_name = "prod"
  bucket_arn   = "arn:aws:s3:::vr-checkpoints"
  kms_key_arn  = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  service_accounts = [
    { namespace = "shop", name = "vr-replica", role = "writer" },
    { namespace = "shop", name = "vr-drill", role = "drill" },
    { namespace = "bank", name = "vr-restore", role = "bootstrap" },
    { namespace = "vr-system", name = "vr-operator", role = "operator" },
  ]
}

run "roles" {
  assert {
    condition     = keys(output.role_arns) == ["bootstrap", "collector", "drill", "operator", "writer"]
    error_message = "there is a role too many or too few"
  }

  assert {
    condition = alltrue([for role in aws_iam_role.this : jsondecode(role.assume_role_policy).Statement == [{
      Sid       = "PodIdentity"
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]])
    error_message = "somebody else than EKS can take a role, or the session has no tags"
  }

  # The whole of what a role may do, and so also what it may not.
  assert {
    condition = jsonencode({
      for kind, policy in output.policies :
      kind => sort(distinct(flatten([for s in jsondecode(policy).Statement : s.Action])))
      }) == jsonencode({
      writer    = ["kms:Decrypt", "kms:GenerateDataKey", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
      collector = ["kms:Decrypt", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket"]
      bootstrap = ["kms:Decrypt", "kms:GenerateDataKey", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
      drill     = ["kms:Decrypt", "s3:GetObject", "s3:ListBucket"]
      operator  = ["kms:Decrypt", "kms:GenerateDataKey", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    })
    error_message = "a role can do more or less than its work needs"
  }

  assert {
    condition     = alltrue(flatten([for policy in output.policies : [for s in jsondecode(policy).Statement : s.Effect == "Allow" && !can(s.NotAction) && !can(s.NotResource)]]))
    error_message = "a statement allows by exclusion"
  }
}

run "keys" {
  # Whatever can be touched is below the prefix of the pod's namespace, except for the operator.
  assert {
    condition = alltrue(flatten([
      for kind, policy in output.policies : [
        for s in jsondecode(policy).Statement : [
          for resource in flatten([s.Resource]) :
          startswith(resource, "arn:aws:s3:::vr-checkpoints/$${aws:PrincipalTag/kubernetes-namespace}/")
        ] if s.Sid != "List" && !contains(["Decrypt", "Encrypt"], s.Sid)
      ] if kind != "operator"
    ]))
    error_message = "a role reaches another namespace's keys"
  }

  assert {
    condition = flatten([
      for s in jsondecode(output.policies["writer"]).Statement : s.Resource if contains(flatten([s.Action]), "s3:PutObject")
      ]) == [
      for key in ["FORMAT", "HEAD", "g/*", "probe/*"] : "arn:aws:s3:::vr-checkpoints/$${aws:PrincipalTag/kubernetes-namespace}/*/${key}"
    ]
    error_message = "a writer writes other keys than docs/checkpoint-format.md has"
  }

  assert {
    condition = flatten([
      for s in jsondecode(output.policies["writer"]).Statement : s.Resource if contains(flatten([s.Action]), "s3:DeleteObject")
      ]) == [
      for key in ["probe/*", "g/*"] : "arn:aws:s3:::vr-checkpoints/$${aws:PrincipalTag/kubernetes-namespace}/*/${key}"
    ]
    error_message = "a writer can delete HEAD or FORMAT, or not collect"
  }

  assert {
    condition = flatten([
      for s in jsondecode(output.policies["bootstrap"]).Statement : s.Resource if contains(flatten([s.Action]), "s3:PutObject")
      ]) == [
      for key in ["HEAD", "probe/*"] : "arn:aws:s3:::vr-checkpoints/$${aws:PrincipalTag/kubernetes-namespace}/*/${key}"
    ]
    error_message = "bootstrap moves HEAD and writes no checkpoints"
  }

  assert {
    condition = jsonencode({
      for s in jsondecode(output.policies["operator"]).Statement : s.Sid => sort(flatten([s.Resource])) if s.Sid != "Encrypt"
      }) == jsonencode({
      Look     = ["arn:aws:s3:::vr-checkpoints"]
      Overview = [for key in ["*/HEAD", "*/g/*/ckpt/*", "CLAIM", "evidence/*"] : "arn:aws:s3:::vr-checkpoints/*/${key}"]
      Govern   = [for key in ["*/HEAD", "CLAIM", "evidence/*"] : "arn:aws:s3:::vr-checkpoints/*/${key}"]
      Try      = ["arn:aws:s3:::vr-checkpoints/*/probe/*"]
    })
    error_message = "the operator reads pages or log, or writes other keys than claims, HEAD and records"
  }

  assert {
    condition = alltrue([
      for kind, policy in output.policies : [
        for s in jsondecode(policy).Statement : s.Condition if s.Action == "s3:ListBucket"
      ] == [{ StringLikeIfExists = { "s3:prefix" = ["$${aws:PrincipalTag/kubernetes-namespace}/*"] } }] if kind != "operator"
    ])
    error_message = "a list of another namespace's prefix gets through"
  }

  assert {
    condition = alltrue(flatten([
      for policy in output.policies : [
        for s in jsondecode(policy).Statement : s.Resource == var.kms_key_arn && s.Condition == {
          StringEquals = {
            "kms:ViaService"                   = "s3.eu-central-1.amazonaws.com"
            "kms:EncryptionContext:aws:s3:arn" = "arn:aws:s3:::vr-checkpoints"
          }
        } if contains(["Decrypt", "Encrypt"], s.Sid)
      ]
    ]))
    error_message = "the key can be used for something else than this bucket"
  }
}

run "service_accounts" {
  assert {
    condition     = keys(aws_eks_pod_identity_association.this) == ["bank/vr-restore", "shop/vr-drill", "shop/vr-replica", "vr-system/vr-operator"]
    error_message = "a service account has no role"
  }

  assert {
    condition = output.service_accounts == {
      shop      = { writer = ["vr-replica"], drill = ["vr-drill"] }
      bank      = { bootstrap = ["vr-restore"] }
      vr-system = { operator = ["vr-operator"] }
    }
    error_message = "the output does not name the service accounts"
  }
}

run "refuses_an_unknown_role" {
  command = plan
  variables { service_accounts = [{ namespace = "shop", name = "x", role = "admin" }] }
  expect_failures = [var.service_accounts]
}

run "refuses_two_roles_for_one" {
  command = plan
  variables {
    service_accounts = [
      { namespace = "shop", name = "vr", role = "writer" },
      { namespace = "shop", name = "vr", role = "drill" },
    ]
  }
  expect_failures = [var.service_accounts]
}

run "refuses_all_namespaces" {
  command = plan
  variables { service_accounts = [{ namespace = "*", name = "vr", role = "writer" }] }
  expect_failures = [var.service_accounts]
}

run "refuses_an_arn_with_a_key" {
  command = plan
  variables { bucket_arn = "arn:aws:s3:::vr-checkpoints/*" }
  expect_failures = [var.bucket_arn]
}

run "refuses_an_alias" {
  command = plan
  variables { kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:alias/vr" }
  expect_failures = [var.kms_key_arn]
}

run "refuses_a_zone" {
  command = plan
  variables { bucket_region = "eu-central-1a" }
  expect_failures = [var.bucket_region]
}

run "refuses_a_long_name" {
  command = plan
  variables { name = "a-name-that-is-much-longer-than-what-iam-can-take-for-a-role" }
  expect_failures = [var.name]
}

run "refuses_a_cluster_by_arn" {
  command = plan
  variables { cluster_name = "arn:aws:eks:eu-central-1:111122223333:cluster/prod" }
  expect_failures = [var.cluster_name]
}

run "refuses_a_boundary_by_name" {
  command = plan
  variables { permissions_boundary_arn = "boundary" }
  expect_failures = [var.permissions_boundary_arn]
}
