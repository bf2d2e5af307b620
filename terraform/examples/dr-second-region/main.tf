# A bucket here, and its second in another region.

provider "aws" {
  region = var.region
}

provider "aws" {
  alias  = "dr"
  region = var.second_region
}

module "checkpoint_bucket" {
  source = "../../modules/checkpoint-bucket"
  name   = var.bucket
}

module "dr_region" {
  source = "../../modules/dr-region"

  providers = {
    aws    = aws
    aws.dr = aws.dr
  }

  name               = "${var.bucket}-second"
  source_bucket      = module.checkpoint_bucket.bucket
  source_bucket_arn  = module.checkpoint_bucket.bucket_arn
  source_kms_key_arn = module.checkpoint_bucket.kms_key_arn
  promoted           = var.promoted
}
